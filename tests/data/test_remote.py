"""Scenes behind an HTTP server: the same chip as from disk, or an error in time."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rasterio.windows import Window

from earthmind_lab.aoi import AOI
from earthmind_lab.data import web
from earthmind_lab.data.access import Access
from earthmind_lab.data.budget import Budget, WebError
from earthmind_lab.data.cache import ChipCache
from earthmind_lab.data.files import Files, Reader
from earthmind_lab.data.links import Link, Links, presign
from earthmind_lab.data.load import load_chip, plan_chip
from earthmind_lab.data.remote import BLOCK
from earthmind_lab.data.samples import catalog_path
from earthmind_lab.data.search import search_pairs
from earthmind_lab.data.web import Web
from earthmind_lab.errors import AccessDenied, AssetUnavailable, Cancelled, EarthMindError
from earthmind_lab.scene import ScenePair
from tests.range_server import FAULTS, RangeServer, serve

SAMPLES = catalog_path().parent
SPAIN = AOI.from_bbox(-0.775, 38.09, -0.745, 38.12)
RNG = np.random.default_rng(5)
FAULTY_LOADS = int(os.environ.get("EARTHMIND_FAULTY_LOADS", "50"))


@pytest.fixture(scope="module")
def spain():
    """The pair on disk and its chip."""
    pair = search_pairs(SPAIN, "2019-09-15/2019-09-20", catalog="sample")[0]
    return pair, load_chip(pair, SPAIN)


@pytest.fixture
def server():
    with serve(SAMPLES) as running:
        yield running


def moved(pair: ScenePair, server: RangeServer) -> ScenePair:
    """The pair with its files on the server, as an API would give it."""

    def href(text: str) -> str:
        return server.href(Path(text))

    def scene(scene):
        assets = {band: href(path) for band, path in scene.assets.items()}
        return replace(scene, assets=assets)

    return replace(pair, optical=scene(pair.optical), sar=scene(pair.sar))


def reader(server: RangeServer, seconds: float = 30.0, links: Links | None = None) -> Reader:
    return Reader(files=Files(Access(hosts=(server.place,)), links), budget=Budget(seconds))


def test_a_chip_over_http_is_the_chip_from_disk(spain, server):
    pair, chip = spain
    remote = load_chip(moved(pair, server), SPAIN, reader=reader(server))
    assert np.array_equal(remote.optical, chip.optical, equal_nan=True)
    assert np.array_equal(remote.sar, chip.sar, equal_nan=True)
    assert remote.grid == chip.grid
    assert all(facts["etag"] for facts in remote.provenance["inputs"])


def test_only_the_window_is_fetched(tmp_path):
    """Of a large file, the header, and then all tiles of the window at once."""
    path = tmp_path / "big.tif"
    write_tiled(path, 4096)
    with serve(tmp_path, delay=0.2) as server:
        files = Files(Access(hosts=(server.place,)))
        file = files.remote(server.href(path), Budget(10))
        with Reader(files=files).open(ref_of(server.href(path))) as raster:
            server.most_at_once, server.together = 0, 2
            window = raster.read(window=Window(1000, 1000, 200, 200))
            assert server.most_at_once == 2  # both rows of tiles in one round trip
        assert window.shape == (200, 200)
        assert file.fetched < path.stat().st_size / 10
        assert len(server.requests) == 3  # neighbours come as one


def test_all_bands_come_in_two_round_trips(spain, server):
    """The headers of all files together, and then the tiles of all bands."""
    pair, chip = spain
    there, asked = moved(pair, server), reader(server)
    server.together = files = len(chip.bands) + len(chip.polarisations)
    plan = plan_chip(there, SPAIN, reader=asked)
    assert server.most_at_once == len(server.requests) == files
    server.most_at_once = 0
    server.together = files // 2  # some bands need no more than their header's bytes
    remote = load_chip(there, SPAIN, plan=plan, reader=asked)
    assert np.array_equal(remote.optical, chip.optical, equal_nan=True)
    assert server.most_at_once >= files // 2
    assert max(server.seen.values()) <= 3


def test_large_windows_come_in_strips(tmp_path, monkeypatch):
    """No more is fetched at a time than memory keeps, and each byte once."""
    path = tmp_path / "big.tif"
    write_tiled(path, 1024)
    with serve(tmp_path) as server:
        ref = ref_of(server.href(path))
        window = Window(100, 30, 800, 900)
        with Reader(files=Files(Access(hosts=(server.place,)))).open(ref) as raster:
            whole = raster.read(window=window)
        monkeypatch.setattr("earthmind_lab.data.raster.HELD", 800 * 600 * 2)
        files = Files(Access(hosts=(server.place,)))
        with Reader(files=files).open(ref) as raster:
            assert len(raster._strips(window)) > 1
            assert np.array_equal(raster.read(window=window), whole)
        assert files.remote(ref.href, Budget()).fetched <= path.stat().st_size


def test_files_used_long_ago_leave_the_memory(tmp_path, monkeypatch):
    for name in ("one", "two"):
        write_tiled(tmp_path / f"{name}.tif", 1024)
    with serve(tmp_path) as server:
        files = Files(Access(hosts=(server.place,)))
        hrefs = [server.href(tmp_path / f"{name}.tif") for name in ("one", "two")]
        for href in hrefs:
            with Reader(files=files).open(ref_of(href)) as raster:
                raster.read(window=Window(0, 0, 1024, 1024))
        one, two = (files.remote(href, Budget()) for href in hrefs)
        before = two.held
        monkeypatch.setattr("earthmind_lab.data.files.MOST", before)
        files.remote(hrefs[1], Budget())
        assert one.held <= 2 * BLOCK and two.held == before


def test_a_server_without_ranges_sends_small_files_whole(spain, server):
    server.ranges = False
    pair, chip = spain
    remote = load_chip(moved(pair, server), SPAIN, reader=reader(server))
    assert np.array_equal(remote.sar, chip.sar, equal_nan=True)


@pytest.mark.parametrize("fault", ["429", "500", "reset", "truncated"])
def test_what_passes_is_tried_again(spain, server, fault):
    """Every third request fails."""
    server.fault = lambda _path, number: fault if number % 3 == 0 else None
    pair, chip = spain
    remote = load_chip(moved(pair, server), SPAIN, reader=reader(server))
    assert np.array_equal(remote.optical, chip.optical, equal_nan=True)
    assert np.array_equal(remote.sar, chip.sar, equal_nan=True)


def test_a_stalled_request_is_made_again(spain, server, monkeypatch):
    monkeypatch.setattr(web, "STALL_S", 0.3)
    server.fault = lambda _path, number: "stall" if number == 4 else None
    pair, chip = spain
    remote = load_chip(moved(pair, server), SPAIN, reader=reader(server))
    assert np.array_equal(remote.sar, chip.sar, equal_nan=True)


def test_time_that_runs_out_between_check_and_request_is_late(tmp_path):
    """The clock stands at the very end once the budget has been asked."""
    ticks = iter([0.0, 0.5])
    budget = Budget(1, clock=lambda: next(ticks, 1.0))
    with pytest.raises(WebError) as caught:
        Web(Access(hosts=("127.0.0.1:9",))).get("http://127.0.0.1:9/x", budget=budget)
    assert caught.value.kind == "late"


@pytest.mark.parametrize("fault", ["429", "500", "reset", "stall", "drip", "truncated"])
def test_a_server_that_never_answers_ends_at_the_deadline(spain, server, fault):
    server.fault = lambda path, _number: fault if "vv" in path.lower() else None
    started = time.monotonic()
    with pytest.raises(AssetUnavailable, match=r"in time|fetched"):
        load_chip(moved(spain[0], server), SPAIN, reader=reader(server, 2.0))
    assert time.monotonic() - started < 8


def test_headers_that_drip_end_at_the_deadline():
    """Every byte starts a socket's own patience anew; 200 of them take ten seconds."""
    sent = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def drip() -> None:
            made, _ = listening.accept()
            with made, contextlib.suppress(OSError):
                made.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                while len(sent) < 200 and not over.wait(0.05):
                    made.sendall(b"x")
                    sent.append(1)
                made.sendall(b"\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        place = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(WebError) as caught:
            Web(Access(hosts=(place,))).get(f"http://{place}/a.tif", budget=Budget(0.5))
        over.set()
        thread.join()
    assert caught.value.kind == "late"
    assert len(sent) < 200


def test_a_load_can_be_stopped(spain, server):
    server.fault = lambda _path, _number: "drip"
    asked = reader(server, 60.0)
    asked.budget.cancel()
    with pytest.raises(Cancelled):
        load_chip(moved(spain[0], server), SPAIN, reader=asked)


def test_a_stop_does_not_wait_for_a_silent_server(spain, server, monkeypatch):
    """Ctrl-C ends a load at once; the server would be silent for longer than this test waits."""
    monkeypatch.setattr(web, "STALL_S", 60.0)
    server.fault = lambda path, _number: "stall" if "vv" in path else None
    asked = reader(server, 120.0)
    with ThreadPoolExecutor(1) as lane:
        load = lane.submit(load_chip, moved(spain[0], server), SPAIN, reader=asked, cache=False)
        while not any("vv" in path for path in list(server.seen)):
            time.sleep(0.01)
        asked.budget.cancel()
        with pytest.raises(Cancelled):
            load.result(timeout=20)


def test_a_body_that_a_stop_cut_short_is_no_body():
    asked = Budget(60)

    class Hung:
        status, headers = 200, {}

        def read1(self, _size):
            asked.cancel()
            return b""

    with pytest.raises(Cancelled):
        web._read(Hung(), asked)


def test_a_refused_address_is_said_once(spain, server):
    lonely = Reader(files=Files(Access()))
    with pytest.raises(AssetUnavailable, match="private network") as refused:
        load_chip(moved(spain[0], server), SPAIN, reader=lonely, cache=False)
    assert refused.value.found.count("http://") == 1


@pytest.mark.parametrize(
    ("fault", "error", "match"),
    [
        ("expired", AccessDenied, "doctor"),
        ("redirect", AssetUnavailable, "127.0.0.1 is not in EARTHMIND_HOSTS"),
    ],
)
def test_refusals_are_not_tried_again(spain, server, fault, error, match):
    server.fault = lambda _path, _number: fault
    with pytest.raises(error, match=match):
        load_chip(moved(spain[0], server), SPAIN, reader=reader(server))
    assert set(server.seen.values()) == {1}


def test_a_missing_file_says_so(spain, server):
    pair = moved(spain[0], server)
    assets = dict(pair.sar.assets) | {"vv": f"{server.url}/nowhere.tif?key=secret"}
    pair = replace(pair, sar=replace(pair.sar, assets=assets))
    with pytest.raises(AssetUnavailable, match="missing on the server") as caught:
        load_chip(pair, SPAIN, reader=reader(server))
    assert "secret" not in str(caught.value)


def test_a_file_that_changes_is_refused(tmp_path):
    path = tmp_path / "big.tif"
    write_tiled(path, 2048)
    with serve(tmp_path) as server:
        file = Files(Access(hosts=(server.place,))).remote(server.href(path), Budget(5))
        body = path.read_bytes()
        path.write_bytes(body[:-1] + bytes([body[-1] ^ 1]))
        with pytest.raises(WebError, match="412") as caught:
            file.read([(40 * BLOCK, 10)], Budget(5))
        assert caught.value.kind == "changed"


class _Clock:
    """A signer's world: a token that opens for an hour, and a clock that is turned by hand."""

    def __init__(self) -> None:
        self.now = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
        self.signed: list[dt.datetime] = []


class _Signing(Links):
    """Signs with the fake clock, as the Planetary Computer's tokens do."""

    def __init__(self, clock: _Clock) -> None:
        super().__init__(now=lambda: clock.now)
        self.clock = clock

    def sign(self, href, web, budget) -> Link:
        token, until = self._tokens.get("all", ("", self.clock.now))
        if until - dt.timedelta(minutes=2) <= self.clock.now:
            self.clock.signed.append(self.clock.now)
            until = self.clock.now + dt.timedelta(hours=1)
            token = f"sig={until:%H%M}"
            self._tokens["all"] = (token, until)
        return Link(url=f"{href}?{token}")

    def forget(self, href) -> bool:
        return self._tokens.pop("all", None) is not None


def test_an_expired_link_is_signed_again_mid_read(spain, server):
    """The server's own clock decides: it takes no link older than an hour."""
    clock = _Clock()

    def judge(path: str, number: int) -> str | None:
        if number == 10:  # the middle of the load
            clock.now += dt.timedelta(hours=2)
        return "expired" if path.partition("sig=")[2] <= f"{clock.now:%H%M}" else None

    server.fault = judge
    pair, chip = spain
    remote = load_chip(moved(pair, server), SPAIN, reader=reader(server, links=_Signing(clock)))
    assert np.array_equal(remote.sar, chip.sar, equal_nan=True)
    assert len(clock.signed) >= 2
    assert not any("sig=" in facts["href"] for facts in remote.provenance["inputs"])


def test_tokens_of_the_planetary_computer_are_kept_until_they_expire(server, monkeypatch):
    """The service's answer as recorded; the clock is turned by hand."""
    clock = _Clock()
    asked = []

    def get(self, url, **_kwargs):
        asked.append(url)
        until = clock.now + dt.timedelta(hours=1)
        body = f'{{"msft:expiry":"{until:%Y-%m-%dT%H:%M:%SZ}","token":"st=1&sig=n{len(asked)}"}}'
        return web.Response(status=200, headers={}, body=body.encode())

    monkeypatch.setattr(Web, "get", get)
    links, client = Links(now=lambda: clock.now), Web(Access())
    href = "https://sentinel1euwestrtc.blob.core.windows.net/sentinel1-grd-rtc/GRD/iw-vv.rtc.tiff"

    def url() -> str:
        return links.sign(href, client, Budget(5)).url

    assert url() == f"{href}?st=1&sig=n1" == url()
    clock.now += dt.timedelta(minutes=59)
    assert url().endswith("sig=n2")
    assert links.forget(href)
    assert url().endswith("sig=n3")
    assert asked[0].endswith("/token/sentinel1euwestrtc/sentinel1-grd-rtc")


def test_presigned_address_of_aws_s_own_example():
    """docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html"""
    signed = presign(
        "https://examplebucket.s3.amazonaws.com/test.txt",
        region="us-east-1",
        key="AKIAIOSFODNN7EXAMPLE",
        secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        now=dt.datetime(2013, 5, 24, tzinfo=dt.UTC),
        seconds=86400,
    )
    assert signed.endswith("aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


@pytest.mark.parametrize(
    ("href", "names"),
    [
        ("s3://sentinel-s1-l1c/GRD/iw-vv.tiff", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("s3://eodata/Sentinel-2/B04.jp2", "CDSE_S3_ACCESS_KEY and CDSE_S3_SECRET_KEY"),
        ("https://datapool.asf.alaska.edu/RTC/a_VV.tif", "EARTHDATA_TOKEN"),
    ],
)
def test_a_missing_key_is_named(href, names):
    with pytest.raises(AccessDenied, match=f"set {names}"):
        Links(env={}).sign(href, Web(Access()), Budget(5))


def test_keys_sign_and_open_buckets_need_none():
    env = {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "EARTHDATA_TOKEN": "t"}
    links, client = Links(env=env), Web(Access())
    paid = links.sign("s3://usgs-landsat/a/B4.TIF", client, Budget(5)).url
    assert "x-amz-request-payer=requester" in paid
    assert "X-Amz-Signature=" in paid
    opened = links.sign("s3://sentinel-cogs/a b/B04.tif", client, Budget(5)).url
    assert opened == "https://sentinel-cogs.s3.us-west-2.amazonaws.com/a%20b/B04.tif"
    nasa = links.sign("https://datapool.asf.alaska.edu/a.tif", client, Budget(5))
    assert nasa.headers == {"Authorization": "Bearer t"}


@pytest.mark.parametrize(
    ("target", "kept"),
    [
        ("https://cumulus.asf.earthdatacloud.nasa.gov/a.tif", True),
        ("http://cumulus.asf.earthdatacloud.nasa.gov/a.tif", False),
        ("https://earthdatacloud.nasa.gov.example.com/a.tif", False),
        ("https://notasf.alaska.edu/a.tif", False),
        ("https://bucket.s3.us-west-2.amazonaws.com/a.tif?X-Amz-Signature=s", False),
    ],
)
def test_a_token_of_earthdata_goes_on_to_its_hosts_alone(monkeypatch, target, kept):
    """The pool of the Alaska Satellite Facility sends requests on to another of NASA's hosts."""
    seen = {}

    def once(_self, _method, url, _budget, headers, _body):
        seen[url] = headers
        moved = {} if url == target else {"Location": target}
        return web.Response(status=302 if moved else 200, headers=moved, body=b"")

    monkeypatch.setattr(Web, "_once", once)
    links, client = Links(env={"EARTHDATA_TOKEN": "t"}), Web(Access())
    link = links.sign("https://datapool.asf.alaska.edu/a.tif", client, Budget(5))
    client.get(link.url, budget=Budget(5), headers=link.headers, trusted=link.trusted)
    assert ("Authorization" in seen[target]) is kept


def test_a_token_is_never_sent_in_the_clear():
    href = "http://datapool.asf.alaska.edu/a.tif"
    assert not Links(env={"EARTHDATA_TOKEN": "t"}).sign(href, Web(Access()), Budget(5)).headers


def test_a_container_without_a_token_is_asked_about_once(monkeypatch):
    asked = []

    def get(_self, url, **_kwargs):
        asked.append(url)
        raise WebError("missing", "status 404")

    monkeypatch.setattr(Web, "get", get)
    links, href = Links(), "https://open.blob.core.windows.net/scenes/a.tif"
    for _ in range(3):
        assert links.sign(href, Web(Access()), Budget(5)).url == href
    assert len(asked) == 1


def test_whoever_waits_for_anothers_token_ends_at_its_own_deadline(monkeypatch):
    """The token service stalls for a load that has all the time."""
    asked, over = threading.Event(), threading.Event()

    def get(_self, _url, **_kwargs):
        asked.set()
        over.wait(20)
        raise WebError("missing", "status 404")

    monkeypatch.setattr(Web, "get", get)
    links, href = Links(), "https://open.blob.core.windows.net/scenes/a.tif"
    with ThreadPoolExecutor(1) as lane:
        patient = lane.submit(links.sign, href, Web(Access()), Budget(60))
        assert asked.wait(20)
        with pytest.raises(WebError) as caught:
            links.sign(href, Web(Access()), Budget(0.3))
        waiting = not patient.done()
        over.set()
    assert caught.value.kind == "late"
    assert waiting


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hidden@example.com/a.tif",
        "https://exa mple.com/a.tif?sig=hidden",
        "http://10.0.0.1/a.tif?sig=hidden",
    ],
)
def test_a_refusal_tells_no_keys(url):
    with pytest.raises(WebError) as caught:
        Web(Access()).get(url, budget=Budget(1))
    assert caught.value.kind == "refused"
    assert "hidden" not in str(caught.value)


def test_a_key_never_follows_a_redirect_to_another_host(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"x" * 100)
    seen = []
    with serve(tmp_path) as there, serve(tmp_path) as here:

        def keep(self, method, url, budget, headers, body):
            seen.append((url, dict(headers)))
            if url.startswith(here.url):
                headers = {"Location": there.href(tmp_path / "a.tif")}
                return web.Response(status=302, headers=headers, body=b"")
            return once(self, method, url, budget, headers, body)

        once, Web._once = Web._once, keep
        try:
            client = Web(Access(hosts=(here.place, there.place)))
            secret = {"Authorization": "Bearer t"}
            client.get(here.href(tmp_path / "a.tif"), budget=Budget(5), span=(0, 9), headers=secret)
        finally:
            Web._once = once
    assert "Authorization" in seen[0][1]
    assert seen[1][1] == {"Range": "bytes=0-9"}


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.1:8888/api",
        "http://localhost/a.tif",
        "http://[::1]/a.tif",
        "http://[::ffff:10.0.0.1]/a.tif",
        "http://[64:ff9b::169.254.169.254]/a.tif",
        "http://10.1.2.3/a.tif",
        "http://2130706433/a.tif",
        "http://0x7f000001/a.tif",
        "http://0x7f.0.0.1/a.tif",
        "http://router.local/a.tif",
        "http://metadata.google.internal/a.tif",
        "https://user:password@example.com/a.tif",
        "file:///etc/passwd",
        "ftp://example.com/a.tif",
        "gopher://example.com/",
        "http://",
        "http://[",
        "https://example.com:99999/a.tif",
    ],
)
def test_addresses_that_are_never_asked(url):
    with pytest.raises(WebError) as caught:
        Web(Access()).get(url, budget=Budget(1))
    assert caught.value.kind == "refused"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_public_name_that_leads_to_a_private_address_is_refused(scheme, server, monkeypatch):
    """DNS rebinding: the name is public, its address isn't."""
    real = socket.getaddrinfo
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *rest, **more: real("127.0.0.1", *rest, **more)
    )
    port = server.place.partition(":")[2]
    with pytest.raises(WebError, match="private network") as caught:
        Web(Access()).get(f"{scheme}://scenes.example.com:{port}/catalog.json", budget=Budget(2))
    assert caught.value.kind == "refused"
    assert not server.requests


@pytest.fixture
def slow_names(monkeypatch):
    """No name is found before the event is set."""
    real, answered = socket.getaddrinfo, threading.Event()

    def look_up(_host, *rest, **more):
        answered.wait(30)
        return real("127.0.0.1", *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    yield answered
    answered.set()


def test_a_name_that_is_never_found_ends_with_the_budget(slow_names):
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://scenes.example.com:{server.getsockname()[1]}/a.tif"
        with pytest.raises(WebError) as caught:
            Web(Access()).get(url, budget=Budget(0.3))
        assert caught.value.kind == "late"
        assert time.monotonic() - began < 5
        slow_names.set()  # the connection that comes too late is closed, with nothing asked
        server.settimeout(10)
        late, _ = server.accept()
        with late:
            late.settimeout(10)
            assert late.recv(100) == b""


def test_looking_up_a_name_can_be_stopped(slow_names):
    budget = Budget(30)
    threading.Timer(0.2, budget.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        Web(Access()).get("http://scenes.example.com/a.tif", budget=budget)
    assert time.monotonic() - began < 5


def test_hosts_are_named_exactly_or_by_their_end():
    access = Access(hosts=("*.example.com", "10.0.0.7:8080"))
    access.check("https://a.example.com/x")
    access.check("http://10.0.0.7:8080/x")
    for url in ("https://example.com.evil.org/x", "http://10.0.0.7/x", "https://example.org/x"):
        with pytest.raises(Exception, match="EARTHMIND_HOSTS"):
            access.check(url)


def test_fifty_loads_through_a_server_that_fails(spain):
    """Every load ends in the right chip or in an error of ours, within its deadline.

    And when the server has recovered, so has what is known of its files.
    """
    pair, chip = spain
    with serve(SAMPLES, stalled=1.0) as server, ThreadPoolExecutor(4) as lanes:
        server.fault = unreliable(np.random.default_rng(5))
        target = moved(pair, server)
        seconds = np.random.default_rng(6).choice([0.3, 1.0, 4.0], FAULTY_LOADS)
        outcomes = list(lanes.map(lambda s: faulty_load(target, chip, server, s), seconds))
        server.fault = lambda _path, _number: None
        assert faulty_load(target, chip, server, 60.0) == "chip"
    assert {"chip", "AssetUnavailable"} <= set(outcomes), Counter(outcomes)


@pytest.mark.parametrize("fault", ["500", "truncated", "reset"])
def test_a_load_that_fails_halfway_leaves_nothing_in_the_cache(fault, spain, tmp_path, monkeypatch):
    """What is kept is whole and right; an error keeps nothing, half or whole."""
    pair, chip = spain
    monkeypatch.setenv("EARTHMIND_CACHE_BYTES", "1GB")
    monkeypatch.setenv("EARTHMIND_HOME", str(tmp_path))
    kept = ChipCache.from_settings()
    with serve(SAMPLES) as server:
        target = moved(pair, server)
        server.fault = lambda _path, number: fault if number > 6 else None
        assert faulty_load(target, chip, server, 1.0) == "AssetUnavailable"
        assert not kept.entries() and not list(kept.folder.glob(".draft-*"))
        server.fault = lambda _path, _number: None
        assert faulty_load(target, chip, server, 30.0) == "chip"
    assert len(kept.entries()) == 1 and kept.verify() == []


def unreliable(rng):
    """Good and bad minutes: in every 200 requests another share of them fails."""
    faults = [each for each in FAULTS if each != "redirect"]
    shares, draws = rng.choice([0.0, 0.05, 0.4], 20), rng.random(4000)
    kinds = rng.choice(faults, 4000)

    def fault(_path, number):
        at = number % 4000
        return str(kinds[at]) if draws[at] < shares[at // 200] else None

    return fault


def faulty_load(pair, chip, server, seconds) -> str:
    began = time.monotonic()
    try:
        links = _Signing(_Clock())
        loaded = load_chip(pair, SPAIN, reader=reader(server, seconds, links))
        assert np.array_equal(loaded.optical, chip.optical, equal_nan=True)
        assert np.array_equal(loaded.sar, chip.sar, equal_nan=True)
        return "chip"
    except EarthMindError as error:
        return type(error).__name__
    finally:
        assert time.monotonic() - began < seconds + 5


def ref_of(href: str):
    from earthmind_lab.data.assets import AssetRef

    return AssetRef(item={"id": "big"}, key="red", asset={}, href=href, band="red", fields={})


def write_tiled(path: Path, side: int) -> None:
    import rasterio
    from affine import Affine

    values = RNG.integers(1, 4000, (side, side), dtype=np.uint16)
    with rasterio.open(
        path, "w", driver="GTiff", height=side, width=side, count=1, dtype="uint16",
        crs="EPSG:32630", transform=Affine(10, 0, 5e5, 0, -10, 4.2e6), tiled=True,
        blockxsize=256, blockysize=256,
    ) as target:  # fmt: skip
        target.write(values, 1)


LISTENER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(404)
    do_HEAD = do_GET
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
"""Says its port, then on stderr every request; of another process, for GDAL holds Python's lock."""


@pytest.fixture
def listener(tmp_path):
    """The address of a server, and what it was asked."""
    said = tmp_path / "requests.txt"
    with said.open("w") as log, subprocess.Popen(
        [sys.executable, "-c", LISTENER], stdout=subprocess.PIPE, stderr=log, text=True
    ) as process:  # fmt: skip
        try:
            yield f"/vsicurl/http://127.0.0.1:{process.stdout.readline().strip()}/x.tif", said
        finally:
            process.kill()


@pytest.mark.parametrize("overview", [None, 0])
@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("case", [str.upper, str.lower])
def test_a_header_cannot_name_overviews_elsewhere(tmp_path, listener, case, remote, overview):
    import rasterio

    address, said = listener
    path = tmp_path / "tile.tif"
    write_tiled(path, 512)
    with rasterio.open(path, "r+") as target:
        target.update_tags(ns=case("overviews"), **{case("overview_file"): address})
    with serve(tmp_path) as server:
        ref = ref_of(server.href(path) if remote else str(path))
        with (
            pytest.raises(AssetUnavailable, match=r"names another file to open.*/vsicurl/http"),
            reader(server).open(ref, overview) as raster,
        ):
            _ = raster.overviews
    assert said.read_text() == ""
    with rasterio.open(path) as source:  # GDAL alone would have gone there
        assert source.overviews(1) == [] and "/x.tif" in said.read_text()


def test_why_nobody_answers_is_said(monkeypatch):
    import socket

    monkeypatch.setattr(web, "TRIES", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(WebError, match="no connection \\(Connection refused\\)"):
            Web(Access(hosts=(place,))).get(f"http://{place}/a", budget=Budget(20))
