"""The page to label on: what it shows and does, and whom it refuses."""
import contextlib
import http.client
import io
import json
import shutil
import socket
import struct
import subprocess
import threading

import numpy as np
import pytest

from methods.few_labels import label_log, label_queue, labelling, look

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def server(tmp_path):
    """A page of four pictures, two of them to be labelled, and a file beside the folder."""
    for i, kind in enumerate(("red", "blue", "unlabelled", "unlabelled")):
        (tmp_path / "own" / kind).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (60 * i, 0, 0)).save(tmp_path / "own" / kind / f"{i} & ü.png")
    (tmp_path / "secret.png").write_bytes(b"secret")
    folder = look.look(tmp_path / "own", tmp_path / "out")
    queue = label_queue.LabelQueue(folder, lambda: np.flatnonzero(folder.labels == -1), move=True)
    with labelling.Server(queue) as found:
        thread = threading.Thread(target=found.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def ask(server, method, path, body=None, headers=None, token=None):
    """Status, headers and content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    sent = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(method, f"/{server.token if token is None else token}/{path}", body, sent | (headers or {}))
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    return reply.status, reply.headers, content


def test_a_picture_is_labelled_moved_and_put_back(server):
    queue, folder = server.queue, server.queue.folder
    status, headers, page = ask(server, "GET", "")
    assert status == 200 and b"<script>" in page and "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    state = json.loads(ask(server, "GET", "state")[2])
    first = state["waiting"][0]
    assert state["classes"] == ["blue", "red"] and first["file"] == "unlabelled/2 & ü.png" and state["last"] is None
    status, headers, picture = ask(server, "GET", f"picture/{first['picture']}")
    assert status == 200 and headers["Content-Type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture)).width == labelling.PICTURE
    status, _, content = ask(server, "POST", "label", json.dumps({"picture": first["picture"], "class": "red"}))
    assert status == 200 and json.loads(content)["last"]["moved"] == "red/2 & ü.png"
    assert (folder.path / "red" / "2 & ü.png").exists()
    assert label_log.read(folder.log)[0][-1][:3] == ("unlabelled/2 & ü.png", "red", "red/2 & ü.png")
    status, _, content = ask(server, "POST", "undo", "{}")
    assert status == 200 and json.loads(content)["done"] == 0 and (folder.path / "unlabelled" / "2 & ü.png").exists()
    assert queue.folder.labels[first["picture"]] == -1 and ask(server, "POST", "undo", "{}")[0] == 400


@pytest.mark.parametrize("headers", ({"Host": "evil.example"}, {"Host": ""}, {"Origin": "https://evil.example"},
                                     {"Origin": "null"}, {"Host": "127.0.0.1"}, {"Origin": "http://127.0.0.1:1"}), ids=repr)
def test_other_hosts_and_origins_are_refused(server, headers):
    assert ask(server, "GET", "state", headers=headers)[0] == 403
    assert ask(server, "POST", "label", '{"picture": 2, "class": "red"}', headers)[0] == 403
    assert not server.queue.clicks
    own = {"Origin": f"http://127.0.0.1:{server.server_port}"}
    assert ask(server, "POST", "skip", '{"picture": 2}', own)[0] == 200


@pytest.mark.parametrize("token", ("", "x", "%C3%A9", ".."))
def test_without_the_token_there_is_nothing(server, token):
    assert ask(server, "GET", "state", token=token)[0] == 403 and ask(server, "POST", "undo", "{}", token=token)[0] == 403


@pytest.mark.parametrize("path", ("../secret.png", "picture/../../secret.png", "picture/99", "picture/-1", "picture/%2e%2e",
                                  "picture/1e0", "picture/%C2%B2", "secret.png", "picture/2/x", "picture//etc/passwd"))
def test_no_path_leads_out_of_the_folder(server, path):
    status, _, content = ask(server, "GET", path)
    assert status == 404 and b"secret" not in content


@pytest.mark.parametrize("body", ("", "[", "[1]", '{"picture": true, "class": "red"}', '{"picture": 2, "class": "../x"}',
                                  '{"picture": 2, "class": ["red"]}', '{"picture": 9, "class": "red"}',
                                  '{"picture": 0, "class": "red"}', "[" * 9000, "x" * 20_000), ids=lambda body: f"{body[:20]}")
def test_odd_requests_are_refused_and_change_nothing(server, body):
    assert ask(server, "POST", "label", body)[0] == 400
    assert not server.queue.clicks and not server.queue.folder.log.exists()
    form = {"Content-Type": "text/plain"}
    assert ask(server, "POST", "label", '{"picture": 2, "class": "red"}', form)[0] == 400 and not server.queue.clicks


def test_only_this_machine_is_served(server):
    assert server.server_address[0] == "127.0.0.1" and server.token in server.address and len(server.token) >= 30


@pytest.mark.parametrize("what", ("png", "txt"))
def test_what_others_delete_or_move_is_passed_over(what, tmp_path):
    for kind, names in (("red", "a"), ("blue", "b"), ("unlabelled", "cdef")):
        (tmp_path / "own" / kind).mkdir(parents=True)
        for name in names:
            file = tmp_path / "own" / kind / f"{name}.{what}"
            Image.new("RGB", (8, 6), (ord(name), 0, 0)).save(file) if what == "png" else file.write_text(name)
    folder = look.look(tmp_path / "own", tmp_path / "out")
    queue = label_queue.LabelQueue(folder, lambda: folder.unlabelled, move=True)

    def waiting():
        return [item["file"][-5] for item in queue.state()["waiting"]]

    (tmp_path / "own" / "unlabelled" / f"c.{what}").unlink()
    assert waiting() == ["d", "e", "f"] and queue.state()["text"] == ("" if what == "png" else "d")
    with pytest.raises(ValueError, match="cannot be used: it cannot be read"):
        queue.label(2, "red")
    queue.label(3, "red")
    queue.label(4, "blue")
    (tmp_path / "own" / "blue" / f"e.{what}").unlink()
    (tmp_path / "own" / "red" / f"d.{what}").rename(tmp_path / "own" / "unlabelled" / f"d.{what}")
    queue.undo()
    assert waiting() == ["f"]
    queue.undo()
    assert waiting() == ["d", "f"] and look.look(tmp_path / "own", tmp_path / "out").counts().tolist() == [1, 1]
    (tmp_path / "own" / "unlabelled").rename(tmp_path / "elsewhere")
    assert waiting() == []


def test_a_browser_that_goes_away_is_no_error(server, capsys):
    for request in (f"GET /{server.token}/ HTTP/1.1", f"POST /{server.token}/undo HTTP/1.1\r\nContent-Type: application/json\r\n"
                    "Content-Length: 9"):
        with socket.create_connection(("127.0.0.1", server.server_port)) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closes by a reset
            connection.sendall(f"{request}\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
    for error in (ConnectionResetError(), BrokenPipeError()):
        with contextlib.suppress(OSError):
            try:
                raise error
            finally:
                server.handle_error(None, None)
    assert ask(server, "GET", "state")[0] == 200 and capsys.readouterr().err == ""


BROWSER = """
const elements = {}, calls = [], make = () => ({dataset: {}, append() {}, replaceChildren() {}});
const waits = () => new Promise(done => setTimeout(done, 1));
let mode = "well", first = 2;
document = {getElementById: id => elements[id] ??= make(), createElement: make};
fetch = async (what, options = {}) => {
  if (mode === "gone") throw new TypeError("what a browser says of a server that is gone");
  if (options.method) calls.push([what, JSON.parse(options.body)]);
  return {ok: mode === "well" || !options.method, text: async () => "refused", json: async () => (
    {what: "picture", classes: ["a", "b"], done: 0, log: "", waiting: [{picture: first, file: `file ${first}`}], text: "", last: null})};
};
(0, eval)(SCRIPT);
const type = async name => {
  document.getElementById("name").value = name;
  await elements.other.onsubmit({preventDefault() {}});
  await waits();
  return elements.name.value;
};
const press = async (key, more) => { document.onkeydown({key, target: {tagName: "BODY"}, ...more}); await waits(); };
(async () => {
  await waits();
  await press("2"); await press("2", {repeat: true}); await press("3"); await press("s", {ctrlKey: true}); await press("s");
  const waiting = press("1"), typed = [await type("typed while another label is on its way")];
  await waiting;
  mode = "refused"; typed.push(await type("a/b"));
  mode = "well"; typed.push(await type("c"));
  mode = "refused"; first = 3; await press("1");
  const refused = [elements.said.textContent, elements.file.textContent];
  mode = "gone"; await press("s");
  console.log(JSON.stringify([calls, refused, elements.said.textContent, typed]));
})();
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node runs the page's script")
def test_keys_names_refusals_and_a_server_that_is_gone():
    script = labelling.PAGE.read_text().split("<script>")[1].split("</script>")[0].replace('"use strict";', "")
    found = subprocess.run(["node", "-"], input=BROWSER.replace("SCRIPT", json.dumps(script)), capture_output=True, text=True)
    calls, refused, said, typed = json.loads(found.stdout)
    assert [[call, *what.values()] for call, what in calls] == [
        ["label", 2, "b"], ["skip", 2], ["label", 2, "a"], ["label", 2, "a/b"], ["label", 2, "c"], ["label", 2, "a"]]
    assert typed == ["typed while another label is on its way", "a/b", ""]  # what gave no label stays
    assert refused == ["refused", "file 3"] and "every label so far is saved" in said.lower()
