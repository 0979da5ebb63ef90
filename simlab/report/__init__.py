"""A study's map as an object, opened from its folder (`runs/STUDY` or `results/STUDY`), and its page. Imports no torch.

    from simlab.report import open_results

    quick = open_results("results/quick")
    quick.study.question, quick.verdicts[0], quick.table.to_pandas()
"""

from simlab.report.maps import Map, maps
from simlab.report.outline import Axis, Outline
from simlab.report.published import Published, open_results

__all__ = ["Axis", "Map", "Outline", "Published", "maps", "open_results"]
