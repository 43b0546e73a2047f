"""Commands to copy, shown at the end of each help and on the page of commands."""

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "ecliptic demo --open",
        "ecliptic classify photos/ --labels cat,dog,car --model ViT-B-32/openai",
        "ecliptic embed photos/ --model ViT-B-32/openai --out photos.npy",
    ),
    "index": (
        "ecliptic index photos/ --model ViT-B-32/openai --out photos.library",
        "ecliptic index photos/ --out photos.library --prune",
        "ecliptic index -o photos.library --reembed --model ViT-L-14/openai",
    ),
    "search": (
        'ecliptic search photos.library "a red fox" --page found.html',
        'ecliptic search photos.library "a beach" --unlike people -k 50',
        'ecliptic search photos.library --like fox.jpg --where "width >= 640"',
    ),
    "duplicates": (
        "ecliptic duplicates photos.library --page duplicates.html",
        "ecliptic duplicates photos.library --threshold 0.98 --json",
    ),
    "library info": (
        "ecliptic library info photos.library",
        "ecliptic library info photos.library --json",
    ),
    "library check": (
        "ecliptic library check photos.library",
        "ecliptic library check photos.library --deep",
    ),
    "library repair": (
        "ecliptic library repair photos.library",
        "ecliptic library repair photos.library --drop",
    ),
    "library compact": (
        "ecliptic library compact photos.library",
        "ecliptic library compact photos.library --now",
    ),
    "library rejects": (
        "ecliptic library rejects photos.library",
        "ecliptic library rejects photos.library --json",
    ),
    "library remove": (
        "ecliptic library remove photos.library --where 'folder contains /tmp/'",
        "ecliptic library remove photos.library --where 'width < 64'",
    ),
    "library export": (
        "ecliptic library export photos.library --out photos.parquet",
        "ecliptic library export photos.library -o photos.index --where 'size > 0'",
    ),
    "library import": (
        "ecliptic library import laion/ --model ViT-B-32/openai --out laion.library",
        "ecliptic library import v.npy --names ids.json -m ViT-L-14/openai -o v.library",
    ),
    "demo": (
        "ecliptic demo --open",
        'ecliptic demo --images photos/ --model ViT-B-32/openai --queries "a dog,a car"',
    ),
    "models": ("ecliptic models", "ecliptic models l-14 openai", "ecliptic models laion --json"),
    "info": ("ecliptic info ViT-B-32/openai", "ecliptic info model.pt --activation quick_gelu"),
    "convert": (
        "ecliptic convert hf:openai/clip-vit-base-patch32 model.pt --layout openai",
        "ecliptic convert ViT-B-32/openai --to onnx --precision both -o onnx/",
        "ecliptic convert ViT-B-32/openai b32-int8 --precision int8 --calibrate photos",
    ),
    "doctor": (
        "ecliptic doctor ViT-B-32.pt ViT-B-32/openai",
        'ecliptic doctor model/ open_clip:ViT-B-32/openai --image a.png --text "a cat"',
    ),
    "bench": (
        "ecliptic bench",
        "ecliptic bench --random ViT-B-32 --batch 1,32 --seconds 30",
        "ecliptic bench ViT-L-14/openai --device cuda --precision bf16 --json",
    ),
    "embed": (
        "ecliptic embed photos/ --model ViT-B-32/openai --out photos.npy",
        "ecliptic embed captions.csv --column caption --kind text --out vectors.npy",
        "find . -name '*.jpg' | ecliptic embed - --out photos.safetensors",
    ),
    "similarity": (
        'ecliptic similarity cat.png dog.png --text "a cat" --text "a dog"',
        'ecliptic similarity photos.npy --text "a beach" -k 10 --model ViT-B-32/openai',
        "ecliptic similarity photos/ --plot matrix.png --out pairs.csv",
    ),
    "classify": (
        "ecliptic classify photos/ --labels cat,dog,car --model ViT-B-32/openai",
        "ecliptic classify -l cat,dog --calibrate labelled.csv --save pets.safetensors",
        "ecliptic classify photos/ --classifier pets.safetensors --out answers.csv",
    ),
    "moderate": (
        "ecliptic moderate photos/ --rules rules.toml --out queue.csv",
        "ecliptic moderate --rules rules.toml --tune labels.csv --save my.safetensors",
        "ecliptic moderate photos/ --safety-checker sd15/ --page queue.html",
    ),
    "aesthetic": (
        "ecliptic aesthetic photos/ --head v2.pth -m ViT-L-14/openai --best 20",
        "ecliptic aesthetic --train ratings.csv --save head.safetensors",
        "ecliptic aesthetic drawings/ --head head.safetensors --page best.html",
    ),
    "score": (
        "ecliptic score pairs.csv --model ViT-B-32/openai --per-item scores.csv",
        "ecliptic score old/ new/ --captions c.csv -m ViT-B-32/openai",
        "ecliptic score generated/ real/ --metric cmmd --model ViT-L-14-336/openai",
    ),
    "tokens": ('ecliptic tokens "a photo of a cat"', 'ecliptic tokens "a cat" -m ViT-B-32/openai'),
    "lint": (
        'ecliptic lint "a (red:1.3) fox, 4k, masterpiece" --dialect a1111',
        "ecliptic lint captions.txt --strict",
    ),
    "condition": (
        'ecliptic condition "a (red:1.3) fox" --for sdxl -e sdxl/ --dialect a1111',
        'ecliptic condition "a fox" --for sd1 -e ViT-L-14/openai -o fox.safetensors',
    ),
    "draw": (
        'ecliptic draw "a cat" --out cats.png',
        'ecliptic draw "a red apple" --count 4 --seed 2 --clip-guidance 0',
    ),
    "sketch": (
        'ecliptic sketch "a cat" --out cat.svg --page cat.html',
        'ecliptic sketch "a red apple" --strokes 24 --seed 3 --out apple.png',
    ),
    "edit": (
        'ecliptic edit cat.png --from "a cat" --to "a tiger" --out tiger.png',
        'ecliptic edit cat.png --from "a cat" --to "a dog" --way strokes -o dog.svg',
        'ecliptic edit cat.png --from "a cat" --to "a bear" --way drawing -o bear.png',
    ),
    "guide": (
        'ecliptic guide sd15/ "a red fox in the snow" --model ViT-L-14/openai',
        'ecliptic guide sdxl/ "a fox" --scale 50 --decode linear -m ViT-B-32/openai',
    ),
    "train": (
        "ecliptic train recipes/mini.toml --data drawings/",
        "ecliptic train recipes/mini.toml steps=100 optim.rate=1e-3 --explain",
        "ecliptic train --resume runs/mini",
    ),
    "captions write": (
        "ecliptic captions write captions.csv --for sdxl -e sdxl/ --out cache/",
        "ecliptic captions write t.jsonl --column text --id key -e sdxl/ --out cache/",
    ),
    "captions verify": (
        "ecliptic captions verify cache/",
        "ecliptic captions verify cache/ --for sdxl -e sdxl/",
    ),
    "captions repair": (
        "ecliptic captions repair cache/",
        "ecliptic captions repair cache/ --for sdxl -e sdxl/ --remove-others",
    ),
}
