"""CLIP steers what is drawn: canvases that are changed until a loss is small.

Names are lazy, so that importing the package stays cheap.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.guidance.adapting import Adapted as Adapted, adapt_generator as adapt_generator
    from ecliptic.guidance.canvases.canvas import (
        Adjustable as Adjustable,
        Canvas as Canvas,
        MaskedCanvas as MaskedCanvas,
    )
    from ecliptic.guidance.canvases.fourier import FourierCanvas as FourierCanvas
    from ecliptic.guidance.canvases.generator import GeneratorCanvas as GeneratorCanvas
    from ecliptic.guidance.canvases.rasteriser import Strokes as Strokes, rasterise as rasterise
    from ecliptic.guidance.canvases.strokes import StrokesCanvas as StrokesCanvas
    from ecliptic.guidance.canvases.svg import write_svg as write_svg
    from ecliptic.guidance.directions import DirectionalLoss as DirectionalLoss
    from ecliptic.guidance.editing import (
        WAYS as WAYS,
        Edit as Edit,
        EditSettings as EditSettings,
        edit as edit,
    )
    from ecliptic.guidance.optimising import (
        Frame as Frame,
        Optimised as Optimised,
        Terms as Terms,
        optimise as optimise,
    )
    from ecliptic.guidance.sketching import (
        Sketch as Sketch,
        SketchSettings as SketchSettings,
        sketch as sketch,
    )
    from ecliptic.guidance.views import OverViews as OverViews, Views as Views

__getattr__, __dir__ = lazy_names(__name__)
