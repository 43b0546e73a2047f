"""CLIP steers images: any diffusion model by the gradient of any loss, with CLIP's losses.

`guided` steers a denoiser, `sample` runs one, `ClipLoss` says how far images are from prompts,
`guided_pipeline` guides a pipeline of diffusers, `optimise` changes a canvas of pixels, strokes or
a generator; `sketch` and `edit` use it.
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
    from ecliptic.guidance.chance import generator_of as generator_of
    from ecliptic.guidance.clip_guided import (
        DiffusionModel as DiffusionModel,
        clip_guided_diffusion as clip_guided_diffusion,
    )
    from ecliptic.guidance.editing import (
        WAYS as WAYS,
        Edit as Edit,
        EditSettings as EditSettings,
        check_way as check_way,
        edit as edit,
        judge_edit as judge_edit,
        read_mask as read_mask,
        read_picture as read_picture,
        to_bytes as to_bytes,
    )
    from ecliptic.guidance.guiding import guided as guided
    from ecliptic.guidance.losses.clip_loss import (
        ClipLoss as ClipLoss,
        ImagePrompt as ImagePrompt,
        encode_prompts as encode_prompts,
    )
    from ecliptic.guidance.losses.cutouts import Cutouts as Cutouts
    from ecliptic.guidance.losses.directions import DirectionalLoss as DirectionalLoss
    from ecliptic.guidance.losses.distances import (
        cosine_distance as cosine_distance,
        spherical_distance as spherical_distance,
    )
    from ecliptic.guidance.losses.pixel_losses import (
        PixelDifference as PixelDifference,
        out_of_range as out_of_range,
        saturation as saturation,
        total_variation as total_variation,
    )
    from ecliptic.guidance.losses.views import OverViews as OverViews, Views as Views
    from ecliptic.guidance.losses.weighted import WeightedLoss as WeightedLoss
    from ecliptic.guidance.optimising import (
        Frame as Frame,
        Optimised as Optimised,
        optimise as optimise,
    )
    from ecliptic.guidance.parametrisations import (
        Parametrisation as Parametrisation,
        from_x0 as from_x0,
        steer as steer,
        to_x0 as to_x0,
    )
    from ecliptic.guidance.pipelines.decoding import check_decode as check_decode
    from ecliptic.guidance.pipelines.opening import open_pipeline as open_pipeline
    from ecliptic.guidance.pipelines.running import (
        GuidedPipeline as GuidedPipeline,
        guided_pipeline as guided_pipeline,
    )
    from ecliptic.guidance.pipelines.steps import GuidedStep as GuidedStep
    from ecliptic.guidance.sampling import (
        Recurrence as Recurrence,
        SampleStep as SampleStep,
        sample as sample,
    )
    from ecliptic.guidance.schedules import (
        Schedule as Schedule,
        cosine_schedule as cosine_schedule,
        flow_schedule as flow_schedule,
        karras_schedule as karras_schedule,
        stored_schedule as stored_schedule,
    )
    from ecliptic.guidance.sketching import (
        Sketch as Sketch,
        SketchSettings as SketchSettings,
        sketch as sketch,
    )

__getattr__, __dir__ = lazy_names(__name__)
