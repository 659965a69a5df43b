"""What the head of the page says of the records as a whole."""

from __future__ import annotations

import pytest

from lorabench.report.page.markdown import markdown
from lorabench.report.page.material import gather
from lorabench.report.page.view import view
from lorabench.results import Results


@pytest.mark.parametrize(("stages", "percent"), [({"timing": 1.375}, 55), ({"build": 1.0}, None)])
def test_the_share_of_wall_time_that_was_timed(make_record, environment, stages, percent):
    record = make_record(wall_s=2.5, observations={"stages_s": stages})
    shown = view(gather([Results({environment.id: environment}, [record])], []))
    assert [one.percent for one in shown.timed] == ([] if percent is None else [percent])
    assert ("% went into timed and warm-up steps" in markdown(shown)) == (percent is not None)
