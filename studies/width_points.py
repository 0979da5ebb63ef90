"""Plug-in of studies/width.toml: VICReg and EMA-JEPA at widths of their own, frozen, and VICReg fine-tuned."""

from dataclasses import replace

from simlab import methods

WIDTHS = (2, 4, 8, 16, 30)

for width in WIDTHS:
    for name in ("vicreg-frozen", "jepa-frozen", "vicreg-finetuned"):
        known = methods.find(name)
        base, way = name.split("-")
        methods.add(replace(known, name=f"{base}-w{width}-{way}", width=width, theory=None, search=(),
                            meaning=f"{known.meaning} (width {width})"))
