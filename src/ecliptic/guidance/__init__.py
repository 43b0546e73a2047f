"""CLIP steers images: any diffusion model by the gradient of any loss, with CLIP's losses.

`guided` steers a denoiser, `sample` runs one, `ClipLoss` says how far images are from prompts;
`guided_pipeline` guides a pipeline of diffusers.
"""

from typing import TYPE_CHECKING

from ecliptic.lazy import lazy_names

if TYPE_CHECKING:
    from ecliptic.guidance.clip_loss import ClipLoss as ClipLoss
    from ecliptic.guidance.cutouts import Cutouts as Cutouts
    from ecliptic.guidance.distances import (
        cosine_distance as cosine_distance,
        spherical_distance as spherical_distance,
    )
    from ecliptic.guidance.guiding import guided as guided
    from ecliptic.guidance.parametrisations import (
        Parametrisation as Parametrisation,
        from_x0 as from_x0,
        steer as steer,
        to_x0 as to_x0,
    )
    from ecliptic.guidance.pipelines.running import (
        GuidedPipeline as GuidedPipeline,
        guided_pipeline as guided_pipeline,
    )
    from ecliptic.guidance.pipelines.steps import GuidedStep as GuidedStep
    from ecliptic.guidance.pixel_losses import (
        PixelDifference as PixelDifference,
        out_of_range as out_of_range,
        saturation as saturation,
        total_variation as total_variation,
    )
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
    from ecliptic.guidance.weighted import WeightedLoss as WeightedLoss

__getattr__, __dir__ = lazy_names(__name__)
