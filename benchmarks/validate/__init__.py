"""Does an action log say what the environment would have said?"""
