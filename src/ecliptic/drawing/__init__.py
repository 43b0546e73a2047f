"""The embedded drawing model: its data, its training, and drawings from words and pictures."""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.drawing.data import (
        TrainingDrawings as TrainingDrawings,
        read_drawings as read_drawings,
    )
    from ecliptic.drawing.drawings import (
        DrawSettings as DrawSettings,
        draw as draw,
        draw_tensor as draw_tensor,
        to_image as to_image,
    )
    from ecliptic.drawing.model import (
        EMBEDDED as EMBEDDED,
        DrawingModel as DrawingModel,
        load_drawing as load_drawing,
        read_drawing_model as read_drawing_model,
        write_drawing_model as write_drawing_model,
    )
    from ecliptic.drawing.redrawing import RedrawSettings as RedrawSettings, redraw as redraw
    from ecliptic.drawing.settings import DrawingSettings as DrawingSettings
    from ecliptic.drawing.sheets import sheet as sheet, write_pictures as write_pictures
    from ecliptic.drawing.training import (
        DrawingProgress as DrawingProgress,
        read_state as read_state,
        train_drawing as train_drawing,
    )

__getattr__, __dir__ = lazy_names(__name__)
