"""The running application: what it answers to programs, and what it does not give out."""

import http.client
import json
import socket
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from PIL import Image
from safetensors import safe_open

pytest.importorskip("gradio", reason="the web application needs gradio: pip install 'naf-upsampler[app]'")

from naf.data.samples import SAMPLES
from tests.app.server import WAIT, running

SECRET = "/etc/passwd" if Path("/etc/passwd").exists() else __file__
SIDE = 64  # of the outputs: small is fast


@pytest.fixture(scope="module")
def app():
    with running("--max-megapixels", "0.5") as started:
        yield started


@pytest.fixture(scope="module")
def client(app, tmp_path_factory):
    from gradio_client import Client

    return Client(app.address, verbose=False, download_files=tmp_path_factory.mktemp("downloads"))


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    from gradio_client import handle_file

    path = tmp_path_factory.mktemp("photo") / "cat.jpg"
    with Image.open(SAMPLES[1].path) as image:
        image.convert("RGB").resize((120, 80)).save(path)
    return handle_file(path)


def request(app, method, path, body=None, headers=None):
    """Status and body of an answer, redirections not followed."""
    parts = urlsplit(app.address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=WAIT)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def call(app, name, data):
    """What the server says, in the end, to a call made by hand."""
    body = json.dumps({"data": data})
    status, answer = request(app, "POST", f"/gradio_api/call/{name}", body, {"Content-Type": "application/json"})
    if status != 200:
        return answer
    return request(app, "GET", f"/gradio_api/call/{name}/{json.loads(answer)['event_id']}")[1]


def size_of(path):
    with Image.open(path) as image:
        assert image.format == "PNG"
        return image.size


# For programs --------------------------------------------------------------------------------------------------------


def test_programs_upsample(client, photo):
    coarse, sharp, features, facts = client.predict(photo, output_side=SIDE, api_name="/upsample")
    assert size_of(coarse) == size_of(sharp) == (64, 43)
    assert facts["backbone"] == "embedded"
    assert facts["output_size"] == [43, 64]
    with safe_open(features, "pt") as file:
        assert file.get_tensor("features").shape == (facts["channels"], 43, 64)


def test_programs_ask_for_similarity(client, photo):
    coarse, sharp, facts = client.predict(photo, x=119, y=0, output_side=SIDE, api_name="/similarity")
    assert size_of(coarse) == size_of(sharp) == (64, 43)
    assert (facts["row"], facts["col"]) == (0, 63)
    assert -1 <= facts["low"] < facts["high"] <= 1 + 1e-5


def test_programs_ask_for_attention(client, photo):
    picture, window, facts = client.predict(
        photo, x=0, y=79, kernel_size=3, output_side=SIDE, upsampler="naf", head=1, api_name="/attention"
    )
    assert size_of(picture) == (64, 43)
    assert size_of(window)
    assert facts["kernel_size"] == [3, 3]
    assert facts["heads"] > 1
    assert sum(map(sum, facts["weights"])) == pytest.approx(1, abs=1e-4)
    assert facts["cols"] == [0, 1, 2]


def test_programs_ask_for_segments(client, photo):
    coarse, sharp, facts = client.predict(photo, k=3, output_side=SIDE, api_name="/segments")
    assert facts == {"k": 3}
    for path in (coarse, sharp):
        with Image.open(path) as image:
            assert len(image.getcolors()) <= 3


def test_programs_compare(client, photo):
    names = [each["name"] for each in client.predict(api_name="/methods") if not each["untrained"]]
    assert {"bilinear", "naf", "naf+"} <= set(names)
    sheet, methods = client.predict(photo, ["bilinear", "naf+"], output_side=SIDE, api_name="/compare")
    assert size_of(sheet)
    assert [each["upsampler"] for each in methods] == ["bilinear", "naf+"]
    assert all(each["seconds"] > 0 for each in methods)


def test_programs_get_a_report(client, photo):
    report = client.predict(photo, ["naf+"], x=10, y=10, output_side=SIDE, api_name="/report")
    text = Path(report).read_text()
    assert "cat.jpg" in text
    assert "<html" in text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"upsampler": "nothing"}, "nothing"),
        ({"backbone": "hub:owner/repository:entry"}, "only who starts the application"),
        ({"backbone": "no_such_backbone"}, "no_such_backbone"),
        ({"output_side": 100_000}, "output_side is 100000"),
        ({"x": 120.0}, "outside the photo of 120 x 80 pixels"),
    ],
)
def test_programs_are_told_what_is_wrong_in_one_line(app, client, photo, wrong, said):
    from gradio_client.exceptions import AppError

    arguments = {"photo": photo, "x": 1.0, "y": 1.0, "output_side": SIDE, **wrong}
    with pytest.raises(AppError) as caught:
        client.predict(**arguments, api_name="/similarity")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in app.log.read_text()


def test_a_photo_with_too_many_pixels_is_refused(client, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    Image.new("L", (1000, 501)).save(tmp_path / "large.png")
    with pytest.raises(AppError, match=r"large\.png: 1000 x 501 are .* expected at most 0\.5 million"):
        client.predict(handle_file(tmp_path / "large.png"), output_side=SIDE, api_name="/upsample")


def test_only_the_documented_endpoints_are_named(app):
    named = json.loads(request(app, "GET", "/gradio_api/info")[1])["named_endpoints"]
    assert set(named) == {
        *("/methods", "/upsample", "/similarity", "/attention", "/segments", "/compare", "/report"),
    }
    assert [each["parameter_name"] for each in named["/upsample"]["parameters"]] == [
        *("photo", "upsampler", "backbone", "output_side"),
    ]


# What is not given out -----------------------------------------------------------------------------------------------


def test_a_file_of_its_folder_is_served_and_no_other(app):
    (folder,) = app.folders
    assert request(app, "GET", f"/gradio_api/file={folder}/chelsea.png")[0] == 200
    beyond = f"{folder}/../../../../../../..{SECRET}"
    for name in (SECRET, beyond, quote(SECRET, safe=""), quote(beyond, safe=""), f"file://{SECRET}", app.log):
        status, body = request(app, "GET", f"/gradio_api/file={name}")
        assert status in (403, 404), name
        assert b"root:" not in body


def test_the_server_fetches_no_address(app):
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        address = f"http://localhost:{trap.getsockname()[1]}/photo.png"
        for route in ("file=", "proxy="):
            assert request(app, "GET", f"/gradio_api/{route}{address}")[0] in (403, 404)
        for file in (
            {"path": address, "meta": {"_type": "gradio.FileData"}},
            {"path": "", "url": address, "meta": {"_type": "gradio.FileData"}},
            {"path": address, "url": address},
        ):
            said = call(app, "upsample", [file, "bilinear", "", SIDE])
            assert b"event: error" in said or b"uploaded" in said
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize("meta", [{"meta": {"_type": "gradio.FileData"}}, {}])
@pytest.mark.parametrize("path", [SECRET, f"file://{SECRET}", "../../..", "", None, 1])
def test_no_path_but_that_of_an_upload_is_read(app, path, meta):
    said = call(app, "upsample", [{"path": path, "url": f"file://{SECRET}", **meta}, "bilinear", "", SIDE])
    assert b"event: error" in said or b"uploaded" in said
    assert b"root:" not in said
    assert b"no photo, whatever" not in said  # which would tell that it was opened


@pytest.mark.parametrize(
    "path", ["/monitoring", "/gradio_api/runs", "/gradio_api/vibe-code", "/gradio_api/login_check"]
)
def test_routes_that_the_page_does_not_need_are_closed(app, path):
    assert request(app, "GET", path)[0] == 404


def test_the_page_names_no_other_host_to_load_from(app):
    status, page = request(app, "GET", "/")
    assert status == 200
    assert b"fonts.googleapis" not in page
    assert b'<script src="http' not in page
    config = json.loads(request(app, "GET", "/config")[1])
    assert config["analytics_enabled"] is False
    assert not any(each and each.startswith("http") for each in config["stylesheets"])


def test_only_this_machine_is_listened_to(app):
    assert urlsplit(app.address).hostname == "127.0.0.1"
    others = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in others - {"127.0.0.1"}:
        with pytest.raises(OSError):  # noqa: PT011 (refused or unreachable)
            socket.create_connection((address, urlsplit(app.address).port), timeout=2)


# Start and end -------------------------------------------------------------------------------------------------------


def test_the_folder_goes_with_the_process():
    with running() as started:
        (folder,) = started.folders
        assert (folder / "chelsea.png").is_file()
        started.process.terminate()
        started.process.communicate(timeout=WAIT)
        assert started.process.returncode == 0
        assert started.folders == []
        assert started.log.read_text() == ""


def test_a_port_in_use_is_told_in_one_line(app, monkeypatch, capsys):
    from tests.cli.called import error_of_verb

    port = urlsplit(app.address).port
    said = error_of_verb("app", monkeypatch, capsys, "--no-open", "--backbone", "embedded", "--port", port)
    assert f"cannot listen at port {port} of 127.0.0.1" in said
