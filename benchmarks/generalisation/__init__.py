"""What is a policy worth on a network that it has never seen?"""
