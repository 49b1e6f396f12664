"""The little of the Hub's interface that a download needs, served from folders on this machine."""

import contextlib
import hashlib
import json
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Repository:
    """A model repository: files, commits by their digits, and names that point to them."""

    def __init__(self, name):
        self.name, self.commits, self.tags, self.branches, self.asked = name, {}, {}, {}, []

    def commit(self, files, tag=None):
        """Add a commit of files (name → bytes), to which `main` moves."""
        digits = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[digits], self.branches["main"] = files, digits
        if tag:
            self.tags[tag] = digits
        return digits

    def names(self):
        return ("heads", self.branches), ("tags", self.tags)

    def find(self, revision):
        named = {**self.branches, **self.tags}.get(revision, revision)
        return named if named in self.commits else None


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, repository, *arguments):
        self.repository, self.prefix = repository, f"/api/models/{repository.name}"
        super().__init__(*arguments)

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.repository.asked.append((self.command, self.path))
        path = urlsplit(self.path).path
        if path == f"{self.prefix}/refs":
            branches, tags = (_refs(*of) for of in self.repository.names())
            self._json({"branches": branches, "tags": tags, "converts": []})
        elif path.startswith((f"{self.prefix}/revision/", f"{self.prefix}/tree/")):
            self._about(*path.removeprefix(self.prefix).split("/")[1:3])
        elif path.startswith(f"/{self.repository.name}/resolve/"):
            self._file(*path.removeprefix(f"/{self.repository.name}/resolve/").split("/", 1))
        else:
            self._missing("RepoNotFound")

    do_HEAD = do_GET  # noqa: N815

    def _about(self, what, revision):
        commit = self.repository.find(revision)
        if commit is None:
            self._missing("RevisionNotFound")
        elif what == "revision":
            names = [{"rfilename": name} for name in self.repository.commits[commit]]
            self._json({"id": self.repository.name, "modelId": self.repository.name, "sha": commit, "siblings": names})
        else:
            files = self.repository.commits[commit].items()
            self._json([{"type": "file", "path": n, "size": len(c), "oid": _digest(c)} for n, c in files])

    def _file(self, revision, name):
        commit = self.repository.find(revision)
        content = self.repository.commits.get(commit, {}).get(name)
        if content is None:
            self._missing("EntryNotFound")
            return
        self._send(content, {"X-Repo-Commit": commit, "ETag": f'"{_digest(content)}"'})

    def _json(self, content):
        self._send(json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _missing(self, code):
        self._send(b"{}", {"X-Error-Code": code}, 404)

    def _send(self, content, headers, status=200):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


def _refs(kind, names):
    return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": commit} for n, commit in names.items()]


def _digest(content):
    return hashlib.sha1(content).hexdigest()


@contextlib.contextmanager
def serving(repository):
    """Serve a repository on a free port; gives its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, repository))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
