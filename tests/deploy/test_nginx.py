"""nginx with TLS in front of a scheduler: all that goes over the wire goes through it."""

import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import servers
import workers
from deploy.services import copied, free_port, service
from dtask import Client
from dtask.scheduler.api.request_id import HEADER
from dtask.scheduler.blobs import BLOB_BYTES_MAX
from programs import program

MAIN = """
{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log {directory}/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/dtask.conf;
}}
"""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A scheduler behind nginx."""

    scheduler: servers.RunningScheduler
    url: str
    plain_url: str
    context: ssl.SSLContext
    authority: Path

    def http(self, *, token: bool = True) -> httpx.Client:
        """A client of it, which trusts its certificate."""
        headers = servers.bearer(self.scheduler.token if token else None)
        return httpx.Client(base_url=self.url, headers=headers, verify=self.context)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    nginx, directory = program("nginx"), tmp_path_factory.mktemp("nginx")
    key, authority = directory / "dtask.key", directory / "dtask.crt"
    subprocess.run(
        [
            *(program("openssl"), "req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", authority),
        ],
        capture_output=True,
        check=True,
    )
    plain, port = free_port(), free_port()
    user = "user root;" if os.geteuid() == 0 else ""
    main = directory / "nginx.conf"
    main.write_text(MAIN.format(directory=directory, user=user))
    with servers.running_scheduler() as scheduler:
        changes = {
            "server 127.0.0.1:8080": f"server {scheduler.url.removeprefix('http://')}",
            "listen 80;": f"listen 127.0.0.1:{plain};",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/nginx/dtask.crt": str(authority),
            "/etc/nginx/dtask.key": str(key),
            "dtask.example": "localhost",
        }
        copied("nginx/dtask.conf", directory / "dtask.conf", changes)
        command = (nginx, "-p", str(directory), "-c", str(main), "-e", "stderr")
        subprocess.run([*command, "-t"], capture_output=True, check=True)
        with service(*command, port=port, log=directory / "log"):
            yield Site(
                scheduler=scheduler,
                url=f"https://localhost:{port}",
                plain_url=f"http://localhost:{plain}",
                context=ssl.create_default_context(cafile=authority),
                authority=authority,
            )


@pytest.fixture
def _trusting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(site.authority))


@pytest.mark.usefixtures("_trusting")
def test_a_question_is_answered_through_it(site: Site) -> None:
    servers.beat(site.scheduler.url, "w1", resource_tags=["w1"])
    with Client(site.url, token=site.scheduler.token) as client:
        assert client.place(required_tags=["w1"]).worker_id == "w1"


@pytest.mark.e2e
@pytest.mark.usefixtures("_trusting")
def test_a_job_runs_on_a_worker_whose_channel_goes_through_it(site: Site) -> None:
    with (
        workers.worker_process("--tags", "far", scheduler=site.url),
        Client(site.url, token=site.scheduler.token) as client,
    ):
        job = client.submit(["echo", "through and through"], tags=["far"])
        assert client.wait(job, timeout_s=servers.PATIENCE_S).ok
        assert b"".join(client.logs(f"{job.id}/main")) == b"through and through\n"


def test_events_come_as_they_happen(site: Site) -> None:
    with (
        site.http() as http,
        http.stream("GET", "/api/v1/events", timeout=servers.PATIENCE_S) as events,
        site.http() as other,
    ):
        assert other.post("/api/v1/jobs", json={"command": ["true"], "tags": ["none"]}).is_success
        assert any('"state":"queued"' in line for line in events.iter_lines())


def test_nothing_is_open_that_comes_through_it(site: Site) -> None:
    with site.http(token=False) as stranger:
        for method, path in (("GET", "/api/v1/workers"), ("POST", "/api/v1/schedule")):
            answer = stranger.request(method, path)
            assert (answer.status_code, answer.json()["code"]) == (401, "no_token")
        assert stranger.get("/healthz").status_code == 200


def test_a_browser_signs_in_through_it_with_a_cookie_for_tls_alone(site: Site) -> None:
    with site.http() as operator, site.http(token=False) as browser:
        code = operator.post("/api/v1/sign-in-codes").json()["code"]
        page = {"origin": site.url, "sec-fetch-site": "same-origin"}
        answer = browser.post("/api/v1/session", json={"code": code}, headers=page)
        assert answer.json()["signed_in"]
        assert "Secure" in answer.headers["set-cookie"]
        asked = {"command": ["true"], "tags": ["none"]}
        assert browser.post("/api/v1/jobs", json=asked, headers=page).status_code == 201
        foreign = {"origin": "https://elsewhere.example"}
        assert browser.post("/api/v1/jobs", json=asked, headers=foreign).status_code == 403


def test_a_large_blob_passes_and_one_that_is_too_large_is_refused_by_the_scheduler(
    site: Site,
) -> None:
    with site.http() as operator:
        stored = operator.put(f"/api/v1/blobs/{'0' * 64}", content=bytes(2**21))
        assert stored.json()["code"] == "wrong_hash"  # so it has come to its last byte
        refused = operator.put(f"/api/v1/blobs/{'0' * 64}", content=bytes(BLOB_BYTES_MAX + 1))
        assert (refused.status_code, refused.json()["code"]) == (413, "too_large")


def test_a_request_keeps_its_id_or_gets_one_of_nginx(site: Site) -> None:
    header = HEADER.decode()
    with site.http() as operator:
        own = operator.delete("/api/v1/jobs/1000000", headers={header: "mine"})
        made = operator.delete("/api/v1/jobs/1000000")
    assert own.headers[header] == "mine"
    assert len(made.headers[header]) == 32  # as nginx makes them


def test_plain_http_is_sent_to_tls(site: Site) -> None:
    answer = httpx.post(f"{site.plain_url}/api/v1/jobs", verify=False)
    assert answer.status_code == 308
    assert answer.headers["location"] == "https://localhost/api/v1/jobs"
