"""Text-to-image models that read no CLIP text encoder, as data: what they read instead.

`conditioner` refuses them by name. Source: the text encoders that the pipelines of diffusers 0.42
take in their `__init__`.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class WithoutClip:
    """A model, and what it reads; `find` compares names in lower case, letters and digits only."""

    title: str
    reads: str
    starts: tuple[str, ...] = ()  # of its names and pipeline classes
    exact: tuple[str, ...] = ()  # whole names, where a longer one is another model


_UMT5, _GEMMA, _QWEN = "UMT5", "Gemma 2", "Qwen2.5-VL"
_FOR_ADAPTERS = '; CLIP reads only the images of its IP-Adapter, for which there is "ip-adapter"'
_IF = ("ifpipeline", "ifimg2img", "ifinpainting", "ifsuperresolution")

NO_CLIP = (
    WithoutClip("PixArt", "T5", ("pixart",)),
    WithoutClip("DeepFloyd IF", "T5", ("deepfloyd", *_IF), ("if",)),
    WithoutClip("HunyuanDiT", "a BERT, which it calls a bilingual CLIP, and mT5", ("hunyuandit",)),
    WithoutClip("Sana", _GEMMA, ("sana",)),
    WithoutClip("Lumina", "Gemma", ("lumina",)),
    WithoutClip("CogVideoX", "T5", ("cogvideo",)),
    WithoutClip("CogView 3", "T5", ("cogview3",)),
    WithoutClip("CogView 4", "GLM", ("cogview4",)),
    WithoutClip("ConsisID", "T5", ("consisid",)),
    WithoutClip("LTX Video", "T5, and Gemma 3 from version 2", ("ltx",)),
    WithoutClip("AuraFlow", _UMT5, ("auraflow",)),
    WithoutClip("Qwen-Image", "Qwen2.5-VL or Qwen3-VL", ("qwenimage",)),
    WithoutClip("Z-Image", "Qwen3", ("zimage",)),
    WithoutClip("FLUX.2", "Mistral 3 or Qwen3", ("flux2",)),
    WithoutClip("Stable Audio", "T5", ("stableaudio",)),
    WithoutClip("AudioLDM", "CLAP, a model of sounds", ("audioldm", "musicldm")),
    WithoutClip("Kolors", "ChatGLM3" + _FOR_ADAPTERS, ("kolors",)),
    WithoutClip("Chroma", "T5" + _FOR_ADAPTERS, ("chroma",)),
    WithoutClip("Bria", "T5, and a language model as FIBO" + _FOR_ADAPTERS, ("bria",)),
    WithoutClip("Mochi", "T5", ("mochi",)),
    WithoutClip("Allegro", "T5", ("allegro",)),
    WithoutClip("Latte", "T5", ("latte",)),
    WithoutClip("Kandinsky 3", "T5", ("kandinsky3",)),
    WithoutClip(
        "Kandinsky 2.1's decoder",
        'M-CLIP, an XLM-RoBERTa; its prior is "kandinsky2-prior"',
        ("kandinskypipeline", "kandinskyimg2imgpipeline", "kandinskyinpaintpipeline"),
    ),
    WithoutClip("AltDiffusion", "XLM-RoBERTa", ("altdiffusion",)),
    WithoutClip(
        "BLIP-Diffusion", "a CLIP with BLIP-2's vectors of a subject inside", ("blipdiffusion",)
    ),
    WithoutClip("Cosmos", "T5 or Qwen2.5-VL", ("cosmos",)),
    WithoutClip("HunyuanImage", "Qwen2.5-VL and ByT5", ("hunyuanimage",)),
    WithoutClip("HunyuanVideo 1.5", "Qwen2.5-VL and ByT5", ("hunyuanvideo15",)),
    WithoutClip(
        "Wan's text", _UMT5, ("wanpipeline", "wanvace", "wanvideo", "want2v"), ("wan", "wan21")
    ),
    WithoutClip(
        "SkyReels V2's text",
        _UMT5,
        ("skyreelsv2pipeline", "skyreelsv2diffusionforcing"),
        ("skyreelsv2",),
    ),
    WithoutClip("EasyAnimate", "Qwen2-VL or BERT", ("easyanimate",)),
    WithoutClip("GLM-Image", "GLM and T5", ("glmimage",)),
    WithoutClip("ERNIE-Image", "Mistral 3", ("ernieimage",)),
    WithoutClip("Ovis-Image", "Qwen3", ("ovisimage",)),
    WithoutClip("LongCat", "Qwen2.5-VL or UMT5", ("longcat",)),
    WithoutClip("PRX", "T5Gemma", ("prx",)),
    WithoutClip("Motif-Video", "T5Gemma 2", ("motifvideo",)),
    WithoutClip("NucleusMoE-Image", "Qwen3-VL", ("nucleusmoe",)),
    WithoutClip("DreamLite", "Qwen3-VL", ("dreamlite",)),
    WithoutClip("Helios", _UMT5, ("helios",)),
    WithoutClip("Lucy", _UMT5, ("lucy",)),
    WithoutClip("Krea 2", "Qwen3-VL", ("krea2",)),
    WithoutClip("JoyImage", "Qwen3-VL", ("joyimage",)),
    WithoutClip("Ideogram 4", "a language model", ("ideogram",)),
    WithoutClip("AnyFlow", _UMT5, ("anyflow",)),
    WithoutClip("ACE-Step", "a language model", ("acestep",)),
    WithoutClip("OmniGen", "its own language model", ("omnigen",)),
    WithoutClip("latent diffusion", "BERT", ("ldmtexttoimage",)),
)


def explain_missing_family(name: str) -> str | None:
    """Why a model has no family: what it reads in CLIP's place. None for a name not known here.

    Args:
        name: of a model, such as "pixart", or the class of its pipeline, as in model_index.json.
    """
    plain = "".join(character for character in name.lower() if character.isalnum())
    for row in NO_CLIP:
        if plain in row.exact or plain.startswith(row.starts):
            return (
                f"{row.title} reads {row.reads}, not the text encoder of a CLIP, so there is no "
                "family for it; encode prompts with its own pipeline."
            )
    return None
