"""How close to the known optimum does each searcher come, and how soon?"""
