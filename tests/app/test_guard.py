"""The guard before the web server, without the server."""

import asyncio
import json

import pytest

from naf.app.guard import Guard, names_address


def ask(folder, path, *, method="GET", parts=(b"",), headers=(), max_bytes=1000, **limits):
    """Status and body of an answer; what the application behind the guard sees is answered with 200 and echoed."""
    sent, pending = [], list(parts)

    async def behind(scope, receive, send):
        body = b""
        while method != "GET":
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"seen " + body})

    async def receive():
        body = pending.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(pending)}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": list(headers)}
    asyncio.run(Guard(behind, folder=folder, max_bytes=max_bytes, **limits)(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index.js", "/gradio_api/queue/data", "/gradio_api/info"])
def test_what_the_page_needs_passes(tmp_path, path):
    assert ask(tmp_path, path) == (200, b"seen ")


@pytest.mark.parametrize(
    "path",
    [
        *("/monitoring", "/login", "/gradio_api/proxy=http://localhost", "/gradio_api/component_server"),
        *("/gradio_api/process_recording", "/gradio_api/vibe-edit", "/gradio_api/runs", "/gradio_api", "/queue/join"),
        *("/gradio_api/stream/a/b/1/playlist.m3u8", "/gradio_api/deep_link", "/svelte/index.js", "/docs"),
    ],
)
def test_every_other_route_is_closed(tmp_path, path):
    assert ask(tmp_path, path)[0] == 404


def test_files_are_served_from_one_folder(tmp_path):
    folder, secret = tmp_path / "own", tmp_path / "secret.txt"
    folder.mkdir()
    (folder / "link").symlink_to(secret)
    secret.write_text("secret")
    assert ask(folder, f"/gradio_api/file={folder}/picture.png")[0] == 200
    for name in (secret, folder / ".." / "secret.txt", folder / "link", f"{folder}-other/x", "http://localhost/x", ""):
        assert ask(folder, f"/gradio_api/file={name}")[0] == 403, name
    assert ask(folder, "/gradio_api/file=" + "\0")[0] == 403
    assert ask(folder, "/gradio_api/file=" + "x" * 5000)[0] == 403


@pytest.mark.parametrize(
    ("path", "is_address"),
    [
        ("/tmp/naf-app-1/photo.jpg", False),
        ("C:\\Users\\photo.jpg", False),
        ("http://localhost:80/", True),
        (" HTTPS://example.org", True),
        ("file:///etc/passwd", True),
        ("//example.org/x", True),
        ("data:image/png;base64,AAAA", True),
    ],
)
def test_an_address_in_place_of_a_file_is_seen(tmp_path, path, is_address):
    body = json.dumps({"data": [1, {"path": path, "meta": {"_type": "gradio.FileData"}}]}).encode()
    assert names_address(body) is is_address
    status, answer = ask(tmp_path, "/gradio_api/queue/join", method="POST", parts=[body])
    assert status == (400 if is_address else 200)
    assert is_address or answer == b"seen " + body


def test_a_body_comes_through_whole_in_any_parts(tmp_path):
    parts = [b'{"data"', b": [", b"1]}"]
    assert ask(tmp_path, "/gradio_api/queue/join", method="POST", parts=parts) == (200, b'seen {"data": [1]}')


def test_a_body_that_is_no_json_is_left_to_the_server(tmp_path):
    assert ask(tmp_path, "/gradio_api/queue/join", method="POST", parts=[b"{"]) == (200, b"seen {")
    assert not names_address(b"[" * 100_000)


def test_calls_are_bounded(tmp_path):
    parts = [b"x" * (1 << 19)] * 3
    assert ask(tmp_path, "/gradio_api/queue/join", method="POST", parts=parts)[0] == 413


def test_uploads_are_bounded_by_what_comes_and_by_what_is_stated(tmp_path):
    path, small, large = "/gradio_api/upload", [b"x" * 500] * 2, [b"x" * 50_000] * 2
    assert ask(tmp_path, path, method="POST", parts=small) == (200, b"seen " + b"x" * 1000)
    assert ask(tmp_path, path, method="POST", parts=large)[0] == 413
    for stated in (b"1000000", b"-1", b"many"):
        headers = [(b"content-length", stated)]
        assert ask(tmp_path, path, method="POST", parts=small, headers=headers)[0] == 413
    assert ask(tmp_path, path, method="POST", parts=large, max_bytes=100_000)[0] == 200


def test_a_full_folder_takes_no_more(tmp_path):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "picture.png").write_bytes(b"x" * 900)
    headers = [(b"content-length", b"200")]
    options = {"method": "POST", "parts": [b"x" * 200], "headers": headers}
    assert ask(tmp_path, "/gradio_api/upload", quota=1100, **options)[0] == 200
    status, body = ask(tmp_path, "/gradio_api/upload", quota=1099, **options)
    assert status == 413
    assert b"full" in body


@pytest.mark.parametrize(
    ("host", "status"),
    [
        *(("127.0.0.1:7860", 200), ("localhost:7860", 200), ("localhost", 200), ("[::1]:7860", 200)),
        *(("evil.example:7860", 403), ("127.0.0.1.evil.example", 403), ("[::1", 403), ("", 403)),
    ],
)
def test_another_name_for_this_machine_is_not_answered(tmp_path, host, status):
    headers = [(b"host", host.encode())]
    hosts = ("127.0.0.1", "::1", "localhost")
    assert ask(tmp_path, "/", headers=headers, hosts=hosts)[0] == status
    assert ask(tmp_path, "/", headers=headers)[0] == 200  # opened to others


@pytest.mark.parametrize("path", ["/gradio_api/upload", "/gradio_api/queue/join"])
@pytest.mark.parametrize(
    ("origin", "status"),
    [("http://localhost:7860", 200), ("http://localhost:80", 403), ("https://evil.example", 403), ("null", 403)],
)
def test_pages_of_other_sites_cannot_send(tmp_path, path, origin, status):
    headers = [(b"host", b"localhost:7860"), (b"origin", origin.encode())]
    assert ask(tmp_path, path, method="POST", parts=[b"{}"], headers=headers)[0] == status


def test_the_page_tells_the_browser_to_ask_no_one_else(tmp_path):
    started = []

    async def behind(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x-own", b"1")]})

    async def send(message):
        started.append(dict(message["headers"]))

    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    asyncio.run(Guard(behind, folder=tmp_path, max_bytes=1)(scope, None, send))
    assert started[0][b"x-own"] == b"1"
    policy = started[0][b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy


def test_a_websocket_is_not_answered_and_the_lifespan_passes(tmp_path):
    seen = []

    async def behind(scope, receive, send):
        seen.append(scope["type"])

    guard = Guard(behind, folder=tmp_path, max_bytes=1)
    asyncio.run(guard({"type": "websocket", "path": "/"}, None, None))
    asyncio.run(guard({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]
