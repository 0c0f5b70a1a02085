"""Write the report page and the dataset card from what lies in the run folder.

nightshift report recipe.yaml, or: ray job submit --working-dir . -- python -m jobs.report recipe.yaml
"""

from jobs.job import job
from jobs.report.card import write_card
from jobs.report.page import write_report
from jobs.stage import Stage


def run(stage: Stage) -> int:
    """Write `report.html` and `README.md` and say where they are."""
    stage.lease.renew(force=True)
    card = write_card(stage.run, stage.recipe.license)
    page = write_report(stage.run)
    stage.progress.step("reported", f"Report: {page}", page=page, card=card)
    return 0


main = job("report", run)
