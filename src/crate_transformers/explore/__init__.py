"""The explorer: a local page where one watches the algorithm work, and changes it.

state.py     what the page asks, checked
subjects.py  the models that are looked at, their pictures or text
service.py   a question -> numbers and arrays: pure, without HTTP
scripts.py   the Python that prints the numbers on the screen
packing.py   an answer as bytes
server.py    the door: one computation at a time, for one user
static/      the page
"""
