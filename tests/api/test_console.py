"""The console's pages and acts, as its page asks for them; what a browser makes of it is in tests/browser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.api.callers import WayIn
from app.domain.caller import Caller, Scope
from app.domain.model import Code
from tests.api.conftest import Serve, Served, wait_until, write_rows
from tests.api.console import Person
from tests.stuck_rows import stuck as in_a_database
from tests.world import ABSENT, STUCK_KEY, World

READER = Caller("rita", Scope.READ.all_in_it)
REPAIRER = Caller("rob", Scope.REPAIR.all_in_it)


@pytest.fixture
def person(each: Served) -> Iterator[Person]:
    made = Person(each)
    made.log_in()
    yield made
    made.http.close()


@pytest.fixture
def stuck(world: World, serve: Serve) -> Iterator[Person]:
    world.stuck()
    made = Person(serve(auto_repair=False))
    made.log_in()
    yield made
    made.http.close()


def as_caller(server: Served, caller: Caller) -> None:
    """From now on the token that was shown is that of `caller`."""
    way: WayIn = lambda connection: caller if "authorization" in connection.headers else None  # noqa: E731
    server.app.state.logins._ways = (way,)


def test_every_verdict_is_on_the_page_with_its_word_and_the_stuck_one_first(person: Person) -> None:
    page = person.page(show="all")
    for code in Code:
        assert f'class="badge v-{code}"' in page
        assert str(code).replace("_", " ") in page
    listed = page[page.index('<tbody role="rowgroup">') :]
    assert listed.index("agent:main:stuck<") < listed.index("agent:main:settled<")
    assert '<span id="stuck-count">1</span> stuck' in page


def test_the_list_shows_what_is_asked_for(person: Person) -> None:
    def shown(**query: Any) -> set[str]:
        text = person.http.get("/console/sessions", params=query).text
        return {str(code) for code in Code if f">agent:main:{code}</a>" in text}

    assert shown(show="silent") == {"silent"}
    assert shown(show="all", words="NEVER") == {"never_started"}
    assert shown(show="all", agent="another") == set()
    assert "settled" not in shown()
    assert person.http.get("/console/sessions", params={"show": "no-such"}).status_code == 422


@pytest.mark.parametrize("code", list(Code))
def test_every_session_opens_with_its_reason_and_its_picture(person: Person, code: Code) -> None:
    answer = person.http.get(f"/console/sessions/{person.reference_of(f'agent:main:{code}')}")
    assert answer.status_code == 200
    assert '<svg role="img" aria-label="The session in time. ' in answer.text
    assert f"agent:main:{code}</h2>" in answer.text
    forceable = code in (Code.ENDING, Code.ORPHANED, Code.SILENT, Code.NEVER_STARTED)
    assert ("Repair: settle as failed" in answer.text) == (code is Code.STUCK)
    assert ("Settle unproven" in answer.text) == forceable


def test_a_session_that_is_not_there_is_said_to_be_gone(person: Person) -> None:
    answer = person.http.get(f"/console/sessions/{'0' * 24}")
    assert answer.status_code == 404
    assert "this session is not in the last pass any more" in answer.text


def test_a_dry_run_shows_what_would_be_written_and_writes_nothing(stuck: Person, world: World) -> None:
    before = world.store().read_bytes()
    answer = stuck.send(f"/console/sessions/{stuck.reference_of(STUCK_KEY)}/repair", dry_run="true")
    assert answer.status_code == 200
    assert "A dry run: nothing was written." in answer.text
    assert '"failed"' in answer.text.replace("&#34;", '"')
    assert world.store().read_bytes() == before
    assert "Nothing has been repaired yet" in stuck.page()


def test_a_repair_and_its_undo_are_kept_with_the_name_of_who_asked_and_the_reason(
    stuck: Person, world: World, serve: Serve
) -> None:
    (server,) = serve.running
    as_caller(server, REPAIRER)
    before = world.store().read_bytes()
    reference = stuck.reference_of(STUCK_KEY)
    answer = stuck.send(f"/console/sessions/{reference}/repair", reason="the user waits")
    assert "Settled." in answer.text
    assert world.row()["status"] == "failed"
    page = stuck.page()
    assert "Nothing is stuck" in page
    assert "by rob: the user waits" in page

    (repair,) = server.http.get("/repairs").json()["items"]
    assert (repair["actor"], repair["trigger"], repair["reason"]) == ("rob", "api", "the user waits")
    answer = stuck.send(f"/console/repairs/{repair['id']}/undo", reason="it was too early")
    assert "Taken back." in answer.text
    assert world.store().read_bytes() == before
    page = stuck.page()
    assert "by rob: it was too early" in page
    assert "given back by an undo" in page
    again = stuck.send(f"/console/repairs/{repair['id']}/undo", reason="once more")
    assert (again.status_code, again.headers["hx-retarget"]) == (409, ".said")
    assert "This repair cannot be taken back" in again.text


def test_a_session_whose_row_lives_in_a_database_is_shown_settled_and_given_back_like_any_other(
    world: World, serve: Serve
) -> None:
    row = in_a_database(world)
    world.gateway = ABSENT
    before = row.node()
    server = serve(auto_repair=False)
    person = Person(server)
    person.log_in()
    (item,) = server.http.get("/sessions/stuck").json()["items"]
    reference = person.reference_of(item["session_key"])
    opened = person.http.get(f"/console/sessions/{reference}").text
    assert '<svg role="img" aria-label="The session in time. ' in opened
    assert "Repair: settle as failed" in opened
    assert "Settled." in person.send(f"/console/sessions/{reference}/repair", reason="the user waits").text
    assert row.database.entry()["status"] == "failed"
    (repair,) = server.http.get("/repairs").json()["items"]
    assert "Taken back." in person.send(f"/console/repairs/{repair['id']}/undo", reason="it was too early").text
    assert row.node() == before
    person.http.close()


def test_what_is_done_needs_a_reason(stuck: Person, world: World) -> None:
    answer = stuck.send(f"/console/sessions/{stuck.reference_of(STUCK_KEY)}/repair", reason="  ")
    assert answer.status_code == 422
    assert "say why" in answer.text
    assert world.row()["status"] == "running"


def test_a_mistake_is_told_as_the_api_tells_it_with_what_to_do_next(person: Person) -> None:
    answer = person.send(f"/console/sessions/{person.reference_of('agent:main:working')}/repair", reason="x")
    assert answer.status_code == 409
    assert "The session may not be settled" in answer.text
    assert "it is working" in answer.text
    assert "Look at the evidence" in answer.text
    assert 'href="/problems/not_stuck"' in answer.text


def test_what_is_not_proven_is_settled_when_a_person_names_the_status(person: Person, world: World) -> None:
    reference = person.reference_of("agent:main:orphaned")
    assert person.send(f"/console/sessions/{reference}/repair", reason="x", target_status="odd").status_code == 422
    answer = person.send(f"/console/sessions/{reference}/repair", reason="x", target_status="killed")
    assert answer.status_code == 200
    assert world.row("agent:main:orphaned")["status"] == "killed"


def test_who_may_only_read_sees_no_button_and_is_refused(stuck: Person, serve: Serve, world: World) -> None:
    (server,) = serve.running
    as_caller(server, READER)
    reference = stuck.reference_of(STUCK_KEY)
    assert "<form class=" not in stuck.http.get(f"/console/sessions/{reference}").text
    answer = stuck.send(f"/console/sessions/{reference}/repair", reason="x")
    assert (answer.status_code, world.row()["status"]) == (403, "running")
    assert "This token may not do that" in answer.text


def test_who_may_repair_and_no_more_is_not_offered_to_overrule(person: Person, each: Served) -> None:
    as_caller(each, REPAIRER)
    reference = person.reference_of("agent:main:orphaned")
    assert "Settle unproven" not in person.http.get(f"/console/sessions/{reference}").text
    answer = person.send(f"/console/sessions/{reference}/repair", reason="x", target_status="killed")
    assert answer.status_code == 403


def test_a_key_with_marks_of_html_in_it_is_text(world: World, serve: Serve) -> None:
    world.stuck()
    rows = world.rows()
    rows['agent:main:<script>alert("x")</script>&amp;'] = rows.pop(STUCK_KEY)
    write_rows(world, rows)
    person = Person(serve(auto_repair=False))
    person.log_in()
    page = person.page()
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;&amp;amp;" in page
    person.http.close()


def test_the_timeline_goes_on_where_it_ends(stuck: Person, serve: Serve) -> None:
    (server,) = serve.running
    reference = stuck.reference_of(STUCK_KEY)
    for i in range(12):
        stuck.send(f"/console/sessions/{reference}/repair", reason=f"repair {i}")
        repair = server.http.get("/repairs").json()["items"][0]
        stuck.send(f"/console/repairs/{repair['id']}/undo", reason=f"undo {i}")
    page = stuck.page()
    assert "repair 11" in page
    assert "repair 1<" not in page
    (more,) = {part.split('"')[0] for part in page.split('hx-get="/console/repairs?before=')[1:]}
    earlier = stuck.http.get("/console/repairs", params={"before": more}).text
    assert "repair 1<" in earlier
    assert "repair 11" not in earlier
    assert "Earlier ones" not in earlier


def test_the_audit_that_does_not_answer_is_said_on_the_page(stuck: Person, world: World) -> None:
    world.folder.joinpath("own", "audit.db").unlink()
    assert "The repairs cannot be shown." in stuck.page()
    answer = stuck.send(f"/console/sessions/{stuck.reference_of(STUCK_KEY)}/repair", reason="x")
    assert answer.status_code == 503
    assert "The audit database does not answer" in answer.text


def test_the_stream_tells_of_a_pass_and_says_goodbye_when_the_login_has_ended(
    stuck: Person, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.web import stream

    monkeypatch.setattr(stream, "_ASK_AGAIN_SECONDS", 0.05)
    (server,) = serve.running
    with stuck.http.stream("GET", "/console/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = answer.iter_lines()
        server.look()
        told = [next(line for line in lines if line.startswith(part)) for part in ("event: pass", "data: ")]
        assert '"stuck":1' in told[1].replace(" ", "")
        server.app.state.logins._logins.clear()
        assert any(line == "event: bye" for line in lines)
    wait_until(lambda: stuck.http.get("/console/summary").status_code == 401, "the login has ended")
