"""Trains from shards in moto's S3 server, and compares the weights with those of the same shards on the disk.

    python tests/parity/check_s3_moto.py target/release/openclip [moto_server]

Needs moto[server], boto3 and Pillow. Not part of the tests, which need no Python; what it said is in docs/EXPERIMENTS.md.
"""

import hashlib
import io
import json
import os
import pathlib
import random
import subprocess
import sys
import tarfile
import tempfile
import time

import boto3
from PIL import Image

BINARY = os.path.abspath(sys.argv[1])
MOTO = sys.argv[2] if len(sys.argv) > 2 else "moto_server"
PORT = 5077
ENDPOINT = f"http://127.0.0.1:{PORT}"
MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
KEYS = {"AWS_ACCESS_KEY_ID": "name", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


def write_shard(path, number):
    with tarfile.open(path, "w") as archive:
        for sample in range(32):
            rng = random.Random(number * 100 + sample)
            picture = Image.frombytes("RGB", (48, 48), rng.randbytes(48 * 48 * 3))
            packed = io.BytesIO()
            picture.save(packed, "JPEG", quality=90)
            caption = f"noise {sample} of {number}".encode()
            for suffix, content in (("jpg", packed.getvalue()), ("txt", caption)):
                member = tarfile.TarInfo(f"{number:02}{sample:03}.{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def train(room, name, data, flags="", **environment):
    command = [BINARY, "train", "--model", "tiny.json", "--name", name, "--train-data", data]
    command += ["--train-num-samples", "256", "--batch-size", "16", "--epochs", "1", "--warmup", "1", "--device", "cpu"]
    command += ["--workers", "2", *flags.split()]
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AWS_") and "proxy" not in key.lower()}
    start = time.time()
    done = subprocess.run(command, cwd=room, env={**kept, "HOME": str(room), **environment}, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    print(f"{name}: status {done.returncode}, {time.time() - start:.1f} s {' '.join(lines)}")
    return done


def weights(room, name):
    file = room / "logs" / name / "checkpoints/epoch_1/model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def main():
    with tempfile.TemporaryDirectory() as folder:
        room = pathlib.Path(folder)
        (room / "tiny.json").write_text(json.dumps(MODEL))
        for number in range(8):
            write_shard(room / f"{number:05}.tar", number)
        server = subprocess.Popen([MOTO, "-p", str(PORT)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            client = boto3.client("s3", endpoint_url=ENDPOINT, aws_access_key_id="name", aws_secret_access_key="secret", region_name="us-east-1")
            for _ in range(100):
                try:
                    client.create_bucket(Bucket="bucket")
                    break
                except Exception:
                    time.sleep(0.2)
            for number in range(8):
                client.upload_file(str(room / f"{number:05}.tar"), "bucket", f"set/{number:05}.tar")
            client.put_object(Bucket="bucket", Key="set/sizes.json", Body=json.dumps({f"{n:05}.tar": 32 for n in range(8)}))
            data = "s3://bucket/set/{00000..00007}.tar"
            keyed = {"AWS_ENDPOINT_URL": ENDPOINT, **KEYS}
            assert train(room, "local", "{00000..00007}.tar").returncode == 0
            expected = weights(room, "local")
            assert train(room, "s3", data, **keyed).returncode == 0
            assert weights(room, "s3") == expected
            stop = "--max-steps 7 --save-every-n-steps 1 --resume latest"
            assert train(room, "resumed", data, stop, **keyed).returncode == 3
            assert train(room, "resumed", data, "--save-every-n-steps 1 --resume latest", **keyed).returncode == 0
            assert weights(room, "resumed") == expected
            (room / ".aws").mkdir()
            (room / ".aws/credentials").write_text("[work]\naws_access_key_id = name\naws_secret_access_key = secret\n")
            (room / ".aws/config").write_text(f"[profile work]\nregion = us-east-1\nendpoint_url = {ENDPOINT}\n")
            assert train(room, "profile", data, AWS_PROFILE="work").returncode == 0
            assert weights(room, "profile") == expected
            assert "NoSuchBucket" in train(room, "nowhere", "s3://nowhere/{0..99}.tar", **keyed).stderr
            assert "NoSuchKey" in train(room, "nothing", "s3://bucket/{0..99}.tar", **keyed).stderr
            assert "AWS_PROFILE" in train(room, "keyless", data, AWS_ENDPOINT_URL=ENDPOINT).stderr
            server.kill()
            server.wait()
            assert "onnection refused" in train(room, "dead", data, **keyed).stderr
            print("all as expected")
        finally:
            server.kill()


main()
