"""The paper's table: fewer bits at no more loss, searched live and tested once."""
