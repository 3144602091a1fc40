"""The harness's arithmetic, its table and its file, and that each bench runs."""

from __future__ import annotations

import http.server
import io
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bench import __main__ as command
from bench import detect, endpoints, harness, heal, load, machine, processes, rest, table
from bench.deployment import Deployment, deployed
from bench.harness import BenchError, Listing, Options, Report, Result, of_figure, of_values, percentile
from probe.sandbox.wheel import TritonInstallation

NUMBERS = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=300)


def report(*results: Result, failures: dict[str, str] | None = None) -> Report:
    """A report with these results."""
    return Report(
        started_at="2026-01-01T00:00:00+00:00",
        options=Options(),
        machine=harness.Machine("a cpu", 2, 4096, "6.1", {"probe": "0.1.0"}),
        noise=harness.Noise(0.1, 2.0, 2.5, 0.1, 0.3),
        load_1_minute_at_end=0.2,
        results=results,
        failures=failures or {},
    )


@pytest.mark.parametrize(
    ("values", "percent", "expected"),
    [
        ([7.0], 99, 7.0),
        ([1.0, 2.0], 50, 1.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        (list(range(1, 101)), 99, 99),
        (list(range(1, 101)), 0, 1),
        (list(range(1, 51)), 99, 50),
        (list(range(1, 1001)), 99.9, 999),
    ],
)
def test_a_percentile_is_the_nearest_rank(values: list[float], percent: float, expected: float) -> None:
    """The smallest value that so many percent of all values do not exceed."""
    assert percentile(values, percent) == expected


@given(NUMBERS, st.floats(0, 100))
def test_a_percentile_is_a_value_that_so_many_do_not_exceed(values: list[float], percent: float) -> None:
    """It is never made up, and never lower than the share of samples that it speaks for."""
    found = percentile(values, percent)
    assert found in values
    assert sum(each <= found for each in values) >= percent / 100 * len(values) - 1e-6


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1.0], 101), ([1.0], -1)])
def test_a_percentile_of_nothing_is_an_error(values: list[float], percent: float) -> None:
    """No samples, or no percentage, give no figure."""
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, percent)


@pytest.mark.parametrize(("budget", "met"), [(100, True), (4, True), (3.9, False), (None, None)])
def test_a_result_is_judged_by_its_statistic(budget: float | None, met: bool | None) -> None:  # noqa: FBT001
    """At most the budget is met; without a budget there is no verdict."""
    result = of_values("b", "n", [1.0, 2.0, 4.0], "ms", budget=budget, conditions="c")
    assert (result.figure, result.statistic, result.met, result.samples) == (4.0, "p99", met, 3)
    assert result.ratio == (None if budget is None else pytest.approx(4 / budget))


def test_a_budget_of_zero_is_met_by_zero_alone() -> None:
    """Where nothing may happen there is no ratio, but a verdict."""
    good = of_figure("b", "n", 0, "answers", budget=0, conditions="c")
    bad = of_figure("b", "n", 1, "answers", budget=0, conditions="c")
    assert (good.met, good.ratio, bad.met) == (True, None, False)


def test_a_bench_that_measured_nothing_has_no_result() -> None:
    """No samples is an error, never a figure within its budget."""
    with pytest.raises(BenchError, match="nothing was measured"):
        of_values("b", "n", [], "ms", budget=1, conditions="c")


def test_the_report_is_read_as_it_was_written() -> None:
    """The JSON file holds everything, with its schema's number and every sample."""
    written = report(of_values("b", "n", [1.0, 2.0], "ms", budget=1, conditions="c"), failures={"x": "why"})
    data = harness.to_json(written)
    assert harness.from_json(data) == written
    plain = msgspec.json.decode(data)
    assert plain["schema"] == 1
    assert {"name", "figure", "unit", "budget", "met", "ratio", "conditions", "samples", "values"} <= set(
        plain["results"][0]
    )


@pytest.mark.parametrize(
    ("budget", "failures", "code"), [(10, {}, 0), (1, {}, 1), (None, {}, 0), (10, {"rest": "no"}, 2)]
)
def test_the_exit_code_tells_whether_all_budgets_are_met(
    budget: float | None, failures: dict[str, str], code: int
) -> None:
    """0 for all met, 1 for one that is not, 2 for a bench that could not be run."""
    result = of_figure("b", "n", 5, "ms", budget=budget, conditions="c")
    assert report(result, failures=failures).verdict == code


def test_the_table_shows_each_budget_beside_its_figure() -> None:
    """Verdict and ratio, the conditions once, and what failed."""
    good = of_values("detect", "fast", [1.0, 5.0], "ms", budget=10, conditions="the same")
    more = of_figure("detect", "odd answers", 0, "answers", budget=0, conditions="the same")
    bad = of_figure("rest", "heavy", 80, "MiB", budget=64, conditions="at rest")
    out = io.StringIO()
    table.show(report(good, more, bad, failures={"endpoints": "no Triton"}), Console(file=out, width=150))
    text = out.getvalue()
    rows = [line.split() for line in text.splitlines()]
    assert ["detect", "fast,", "p99", "5", "ms", "10", "met", "0.50x", "1", "5", "2"] in rows
    assert ["detect", "odd", "answers", "0", "answers", "0", "met", "-", "-", "-", "1"] in rows
    assert ["rest", "heavy", "80", "MiB", "64", "NOT", "MET", "1.25x", "-", "-", "1"] in rows
    assert text.count("the same") == 1
    assert "endpoints: FAILED: no Triton" in text


def test_what_happened_is_told_in_a_table_of_its_own() -> None:
    """Each row with all its words; where nothing happened there is no table."""
    said = Listing(bench="soak", title="wrong moves", columns=("WHAT", "WHY"), rows=(("ready", "a\nb"),))
    nothing = Listing(bench="soak", title="none of these", columns=("WHAT",), rows=())
    out = io.StringIO()
    told = msgspec.structs.replace(report(), listings=(said, nothing))
    table.show(told, Console(file=out, width=150))
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert ["soak:", "wrong", "moves"] in rows
    assert ["ready", "a"] in rows
    assert ["b"] in rows
    assert "none of these" not in out.getvalue()
    assert harness.from_json(harness.to_json(told)) == told


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (0.123, "0.12"), (12.34, "12.3"), (123.4, "123"), (-0.4, "-0.40")]
)
def test_a_number_is_written_with_the_figures_that_count(value: float, text: str) -> None:
    """Three of them, without an exponent."""
    assert table.number(value) == text


def test_the_machine_is_described_and_its_noise_measured() -> None:
    """Every figure comes with where, with what, and how quietly it was taken."""
    described, noise = machine.describe(), machine.noise()
    assert described.cores >= 1
    assert described.memory_mib > 0
    assert {"probe", "python", "triton", "grpcio"} <= set(described.versions)
    assert 0 < noise.loop_fastest_ms <= noise.loop_median_ms
    assert noise.wakeup_late_p50_ms <= noise.wakeup_late_p99_ms


def test_a_tree_counts_the_children_and_the_cpu_of_those_that_ended() -> None:
    """Memory and threads are of the living; CPU time is of all."""
    code = (
        "import subprocess, sys\n"
        # A tick may be missing from each of user and system time.
        "busy = 'import time\\nwhile time.process_time() < 0.3: pass'\n"
        "subprocess.run([sys.executable, '-c', busy])\n"
        "waits = 'print(\"up\", flush=True); import sys; sys.stdin.read()'\n"
        "subprocess.Popen([sys.executable, '-c', waits]).wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        assert program.stdout.readline() == b"up\n"
        used = processes.usage(program.pid)
        program.stdin.close()
        program.wait()
    assert used.processes == 2
    assert used.threads >= 2
    assert used.cpu_seconds >= 0.2
    assert used.alone_bytes >= used.pss_bytes > 0
    assert processes.usage(program.pid).processes == 0


class _Slow(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        time.sleep(0.1 if self.path == "/slow" else 0)
        self.send_response(503 if self.path == "/closed" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (http.server's name)
        """Say nothing."""


@pytest.fixture
def slow_port() -> Iterator[int]:
    """A server whose ``/slow`` takes 0.1 s."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Slow) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("asker", [load.Kept, load.Fresh])
def test_a_latency_counts_from_when_the_request_was_due(
    asker: type[load.Kept | load.Fresh], slow_port: int
) -> None:
    """A slow answer is counted in those that had to wait for it, too."""
    samples = load.open_loop(lambda: asker(slow_port), ("/slow",), per_second=160, seconds=0.2)
    assert len(samples) == 32
    assert all(each.seconds >= 0.1 and each.code == 200 for each in samples)
    # Eight workers are busy 0.1 s each and get a request every 0.05 s: the last wait for those before.
    assert max(each.seconds for each in samples) >= 0.2
    assert max(each.late for each in samples) >= 0.1


def test_every_path_is_asked_as_often_as_the_others(slow_port: int) -> None:
    """Requests go round the paths; a code is passed on, and no answer is 0."""
    samples = load.open_loop(lambda: load.Kept(slow_port), ("/a", "/closed"), per_second=200, seconds=0.2)
    assert sorted(each.path for each in samples) == ["/a"] * 20 + ["/closed"] * 20
    assert {each.code for each in samples if each.path == "/closed"} == {503}
    (nobody,) = load.open_loop(lambda: load.Fresh(9), ("/",), per_second=10, seconds=0.1)
    assert nobody.code == 0


def test_an_unknown_bench_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names those that there are."""
    with pytest.raises(SystemExit) as caught:
        command.main(["nonesuch"])
    assert caught.value.code == 2
    assert "detect, rest, endpoints" in capsys.readouterr().err


def test_a_bench_that_fails_leaves_the_others_their_results(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its reason stands in the report."""

    def fails(_: Options) -> list[Result]:
        raise BenchError("no Triton here")

    def works(_: Options) -> list[Result]:
        return [of_figure("works", "n", 1, "ms", conditions="c")]

    monkeypatch.setattr(command, "BENCHES", {"fails": fails, "works": works})
    made = command.run(["fails", "works"], Options())
    assert made.failures == {"fails": "no Triton here"}
    assert [each.bench for each in made.results] == ["works"]


@pytest.fixture(scope="module")
def deployment(pods_work: None, triton_installation: TritonInstallation) -> Iterator[Deployment]:
    """One deployment for all benches, with what each of them needs: starting it is what takes long."""
    with deployed() as made:
        made.repository.add_ensemble("ensemble", steps=(detect.MODEL,))
        detect.prepare(made)
        yield made


def test_the_bench_of_rest_measures_memory_and_cpu(deployment: Deployment) -> None:
    """Every figure of the budgets is there, and is what a running daemon can be."""
    results = {each.name: each for each in rest.measure(deployment, rest.Scale(2, window=1.0, warm_up=0.2))}
    memory = results["memory, PSS of all processes"]
    assert (memory.unit, memory.budget) == ("MiB", 64.0)
    assert 10 < memory.figure < 500
    assert results["CPU"].budget == 5.0
    assert results["CPU"].figure >= 0
    assert results["added to Triton's CPU"].budget == 1.0
    assert results["processes"].figure >= 1


def test_the_bench_of_endpoints_asks_each_while_all_hangs(deployment: Deployment) -> None:
    """Two kinds of connection, every endpoint answered properly."""
    settings = "interval: 250ms\ntriton: {timeout: 250ms}\n"
    scale = endpoints.Scale(2, seconds=0.5, per_second=80, settings=settings)
    results = endpoints.measure(deployment, scale)
    for path in endpoints.ENDPOINTS:
        judged = [each for each in results if each.name.startswith(f"{path} over")]
        assert [(each.samples, each.budget) for each in judged] == [(5, 10.0), (5, 10.0)]
    assert [each.figure for each in results if "without a proper answer" in each.name] == [0, 0]


def test_a_client_tells_what_was_served_since_a_moment() -> None:
    """The first request that was served after the last one that failed is when a model serves again."""
    client = heal.Client("127.0.0.1:1", "m")
    client.answers = [(1.0, True), (2.0, False), (3.0, True), (4.0, False), (5.0, True), (6.0, True)]
    assert client.failures(2.5) == [4.0]
    assert client.first_served(max(client.failures(0.0))) == 5.0
    assert client.first_served(6.0) is None


def test_the_bench_of_detection_kills_a_stub_and_a_server(deployment: Deployment) -> None:
    """The 503 names what was killed while Triton calls itself ready; all is well again afterwards."""
    deployment.start_daemon()
    results = {each.name: each for each in detect.measure(deployment, detect.Scale(1, 1, calm=0.1))}
    assert 0 < results["stub killed to 503"].figure < 60_000
    assert results["stub killed: 503s that did not name StubDead, of 1"].met
    assert results["kills at which Triton said server and model ready, of 1"].figure == 1
    assert 0 < results["tritonserver killed to 503"].figure < 60_000
    assert results["tritonserver killed: 503s that did not name TritonDown, of 1"].met
    deployment.wait_known(2)
