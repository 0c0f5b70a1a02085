"""The commands that make a run again from its own record."""

REPRODUCE = """\
python -c "import json; print(json.dumps(json.load(open('run.json'))['resolved']))" > recipe.yaml
nightshift run recipe.yaml --set store=ANOTHER_FOLDER"""
