"""E. Writers of different layers under one schema: an intent is guarded by the revision it was judged at.

Two documents, a pair that merges both, and a rule: not (A says 1 and B says 1). Writer 0 sets A, writer 1 sets B, a definer switches
the rule on. Requests to Vault may be late; intents may expire and their writes still land: such a write is told by the verifier.

`Guards` is the core: `begin` takes one lock and refuses if a related document or a definition has a change after the guard, or a
related intent is open. `Progress` adds what keeps writers and definers going: replicas that follow the log late, definitions that do
not apply, a writer that was refused a few times and opens its intent before it judges, intents in doubt. `Judging` has one shared
document, two pairs and a definer that judges again only what has changed.
"""
import sys
from typing import NamedTuple

from tests.models.checker import Case, main

GUARDS = dict(moved=True, opened=True, symmetric=True, definitions=True, definer_waits=True, lock=True)


def put(t, i, v):
    return t[:i] + (v,) + t[i + 1:]


class G(NamedTuple):
    vault: tuple             # per document, its versions: (value, author)
    logged: tuple            # per document, how many of them are logged
    changed: tuple           # per document, the revision of its last change
    rev: int
    rule: int
    rule_rev: int
    intents: tuple           # per document: None | (state, base)
    procs: tuple             # per writer: (pc, (base, guard, knows the other), tries)
    net: tuple
    late: tuple
    definer: str = "idle"
    judged: int = 0


class Guards:
    def __init__(self, new_pair=True, rule=1, definer=False, expiry=True, tries=2, **rules):
        self.new_pair, self.rule0, self.with_definer, self.expiry, self.tries = new_pair, rule, definer, expiry, tries
        self.__dict__.update(rules)

    def initial(self):
        b = () if self.new_pair else ((0, -1),)
        return G(vault=(((0, -1),), b), logged=(1, len(b)), changed=(0, 0), rev=0, rule=self.rule0, rule_rev=0,
                 intents=(None, None), procs=(("idle", None, self.tries),) * 2, net=(0, 0), late=(False, False),
                 definer="idle" if self.with_definer else "done")

    def value(self, s, d):
        return s.vault[d][s.logged[d] - 1][0] if s.logged[d] else None

    def is_related(self, w, draft):
        return True if self.symmetric else draft[2]   # else: only documents that were known when it was judged

    def free(self, s, w, draft):
        """What `begin` asks, in one transaction."""
        _, guard, _ = draft
        other = 1 - w
        if self.is_related(w, draft):
            if self.moved and s.changed[other] > guard:
                return False
            if self.opened and s.intents[other] and s.intents[other][0] == "open":
                return False
        return not (self.definitions and s.rule_rev > guard)

    def log(self, s, w, n):
        return n._replace(rev=s.rev + 1, changed=put(s.changed, w, s.rev + 1), logged=put(s.logged, w, len(s.vault[w])),
                          intents=put(s.intents, w, ("applied", s.intents[w][1])))

    def steps(self, s):
        out = []
        for w in (0, 1):
            pc, draft, tries = s.procs[w]
            other = 1 - w

            def go(label, pc2, draft2=None, tries2=tries, state=s):
                out.append((f"{label} {w}", state._replace(procs=put(state.procs, w, (pc2, draft2, tries2)))))

            if pc == "idle":
                if s.rule and self.value(s, other) == 1:
                    go("refused: writer", "done")
                else:
                    go("drafts: writer", "drafted", (s.logged[w], s.rev, s.logged[other] > 0 or w == 1))
            elif pc in ("drafted", "asked"):
                if pc == "drafted" and not self.free(s, w, draft):
                    go("guard moved, again: writer", "idle", None, tries - 1) if tries else go("gives up: writer", "done")
                elif pc == "drafted" and not self.lock:
                    go("has asked: writer", "asked", draft)
                else:
                    n = s._replace(intents=put(s.intents, w, ("open", draft[0])), net=put(s.net, w, 1))
                    go("begins and sends: writer", "sent", draft, state=n)
            elif pc == "sent":
                if len(s.vault[w]) > s.intents[w][1]:
                    go("advances: writer", "done", draft, state=self.log(s, w, s))
                elif self.expiry and s.intents[w][0] == "open":
                    n = s._replace(intents=put(s.intents, w, ("expired", s.intents[w][1])))
                    out.append((f"!expires: intent {w}", n._replace(procs=put(n.procs, w, ("done", draft, tries)))))
            it = s.intents[w]
            if s.net[w] and len(s.vault[w]) == it[1]:
                n = s._replace(vault=put(s.vault, w, s.vault[w] + ((1, w),)), net=put(s.net, w, 0),
                               late=put(s.late, w, it[0] == "expired"))
                out.append((("!late, " if it[0] == "expired" else "") + f"lands: {w}", n))
            if it and it[0] == "expired" and len(s.vault[w]) > it[1]:
                out.append((f"scanner logs {w}", self.log(s, w, s)))
        if s.definer == "idle":
            bad = all(self.value(s, d) == 1 for d in (0, 1))
            out.append(("definer refused", s._replace(definer="done")) if bad else
                       ("definer judges", s._replace(definer="judged", judged=s.rev)))
        elif s.definer == "judged":
            live = any(i and i[0] == "open" for i in s.intents)
            if s.rev != s.judged or (self.definer_waits and live):
                out.append(("definer judges again", s._replace(definer="idle", judged=0)))
            else:
                out.append(("definer commits", s._replace(definer="done", rule=1, rev=s.rev + 1, rule_rev=s.rev + 1, judged=0)))
        return out

    def always(self, s):
        if s.rule and all(self.value(s, d) == 1 for d in (0, 1)) and not any(s.late):
            return "the pair breaks the rule, and no write was late"

    def settled_flaw(self, s):
        return None


FEW = 2     # refusals after which a writer opens its intent first
AGAIN = 2   # times that a definer judges again before it answers 503

PROGRESS = dict(
    guard="followed",     # the guard is the revision that was judged at, not the newest one of the log
    applies=True,         # only definitions that apply send a writer back
    waits=True,           # a writer that was sent back waits until its replica has followed
    first=True,           # after a few refusals the intent is opened first
    afresh=True,          # and the judgement comes after that
    earlier="earlier",    # a writer that opened first waits for intents opened before its own: "earlier" | "none" | "all"
    follows=True,         # and for its replica to follow what they became
    respected=True,       # others respect an intent that was opened first, although nothing was sent for it yet
    cancels=True,         # a writer that opened first and is refused closes its intent
    doubt_blocks=True,    # an intent in doubt blocks what is related
    doubt_ends=True,      # but not for ever
    bounded=True,         # the definer gives up
)


class P(NamedTuple):
    vault: tuple                  # per document, the values of its versions
    log: tuple = ()               # per revision: 0 | 1 (a document), "rule", "other" (a definition that does not apply)
    seen: tuple = (0, 0)          # per writer, the revision that its replica has followed
    intents: tuple = (None, None) # per document: None | (state, base, number, sent); state: open doubt expired applied cancelled
    opened: int = 0               # intents so far
    procs: tuple = ()             # per writer: (pc, guard, refusals, told revision, round)
    net: tuple = (None, None)     # the value under way to Vault
    late: bool = False
    rule: bool = True
    definer: tuple = ("done", 0, 0)   # (pc, judged at, times)
    others: int = 0
    deaths: int = 0
    bad: object = None


ACTIVE = ("open", "doubt")


class Progress:
    """Writer w writes the values of its script, one after the other; documents start with 0."""

    def __init__(self, scripts=((1,), (0, 0, 0, 1)), rule=True, definer=False, others=0, deaths=0, **rules):
        self.scripts = scripts
        self.start = P(vault=((0,), (0,)), procs=(("idle", 0, 0, 0, 0),) * 2, rule=rule, others=others, deaths=deaths,
                       definer=("idle", 0, 0) if definer else ("done", 0, 0))
        self.__dict__.update(rules)

    def initial(self):
        return self.start

    def value(self, s, d, rev):
        return s.vault[d][s.log[:rev].count(d)]

    def has_rule(self, s, rev):
        return self.start.rule or "rule" in s.log[:rev]

    def breaks(self, s, w, rev):
        """Judge the next value of writer w by what its replica knows at a revision."""
        return self.has_rule(s, rev) and self.scripts[w][s.procs[w][4]] == 1 == self.value(s, 1 - w, rev)

    def is_active(self, it):
        return bool(it) and it[0] in (ACTIVE if self.doubt_blocks else ("open",))

    def blocks(self, it):
        return self.is_active(it) and (it[3] or self.respected)

    def entries_after(self, s, w, guard):
        """What sends a writer back: the entries after its guard that concern it."""
        mine = {1 - w, "rule"} if self.applies else {1 - w, "rule", "other"}
        return [entry for entry in s.log[guard:] if entry in mine]

    def advance(self, s, d):
        it = s.intents[d]
        return s._replace(log=s.log + (d,), intents=put(s.intents, d, ("applied", *it[1:])))

    def steps(self, s):
        if s.bad:
            return []
        out = []
        for w in (0, 1):
            out += self.writer(s, w)
            if s.seen[w] < len(s.log):
                out.append((f"the replica of writer {w} follows to {s.seen[w] + 1}", s._replace(seen=put(s.seen, w, s.seen[w] + 1))))
            it = s.intents[w]
            if s.net[w] is not None:
                n = s._replace(net=put(s.net, w, None))
                late = it[0] == "expired"
                out.append((("!late, " if late else "") + f"the write of {w} lands",
                            n._replace(vault=put(s.vault, w, s.vault[w] + (s.net[w],)), late=s.late or late)))
                if it[0] != "open":
                    out.append((f"!the write of {w} is lost", n))
            if it and it[0] in ("doubt", "expired") and len(s.vault[w]) > it[1]:
                out.append((f"the scanner logs the write of {w}", self.advance(s, w)))
            elif it and it[0] == "doubt" and self.doubt_ends:
                out.append((f"the bound of intent {w} ends", s._replace(intents=put(s.intents, w, ("expired", *it[1:])))))
        if s.others:
            out.append(("!a definition that does not apply changes", s._replace(log=s.log + ("other",), others=s.others - 1)))
        return out + self.define(s)

    def writer(self, s, w):
        out = []
        pc, guard, refusals, told, turn = s.procs[w]
        other = s.intents[1 - w]

        def go(label, pc2, state=s, **change):
            new = dict(guard=guard, refusals=refusals, told=told, turn=turn) | change
            out.append((f"writer {w} {label}", state._replace(
                procs=put(state.procs, w, (pc2, new["guard"], new["refusals"], new["told"], new["turn"])))))

        def end(label, state=s):
            """The request is answered; the next one, if any, begins anew."""
            go(label, "idle" if turn + 1 < len(self.scripts[w]) else "done", state, guard=0, refusals=0, told=0, turn=turn + 1)

        def opens(label, sent, pc2, state=s):
            n = state._replace(intents=put(s.intents, w, ("open", len(s.vault[w]), s.opened, sent)), opened=s.opened + 1)
            go(label, pc2, n._replace(net=put(n.net, w, self.scripts[w][turn])) if sent else n, told=len(s.log))

        if s.deaths and pc in ("sent", "first", "following"):
            n = s._replace(deaths=s.deaths - 1, intents=put(s.intents, w, ("doubt", *s.intents[w][1:])))
            out.append((f"!writer {w} dies", n._replace(procs=put(s.procs, w, ("done", 0, 0, 0, turn)))))
        if pc == "idle":
            if refusals >= FEW and self.first:
                opens("opens its intent first", False, "first")
            elif told > s.seen[w] and self.waits:
                pass
            elif self.breaks(s, w, s.seen[w]):
                end("is refused: 422")
            else:
                go("drafts", "drafted", guard=s.seen[w] if self.guard == "followed" else len(s.log))
        elif pc == "drafted":
            if self.blocks(other) and other[0] == "doubt":
                end("answers 503: a related intent is in doubt")
            elif self.entries_after(s, w, guard) or self.blocks(other):
                bad = None
                if refusals >= FEW:
                    bad = f"writer {w} starves"
                elif told > guard:
                    bad = f"writer {w} was sent back by a change that it had been told of"
                elif not self.blocks(other) and not {1 - w, "rule"} & set(s.log[guard:]):
                    bad = f"writer {w} was sent back by a change that does not concern it"
                go("is sent back", "idle", s._replace(bad=bad), refusals=refusals + 1, told=len(s.log))
            else:
                opens("begins and sends", True, "sent")
        elif pc == "first":
            number = s.intents[w][2]
            waits = self.is_active(other) and (self.earlier == "all" or (self.earlier == "earlier" and other[2] < number))
            if waits and other[0] == "doubt":
                end("cancels, answers 503", s._replace(intents=put(s.intents, w, ("cancelled", *s.intents[w][1:]))))
            elif not waits:
                go("sees nothing open before it", "following", told=len(s.log))
        elif pc == "following" and (s.seen[w] >= told or not self.follows):
            if self.breaks(s, w, s.seen[w] if self.afresh else guard):
                closed = s._replace(intents=put(s.intents, w, ("cancelled", *s.intents[w][1:])))
                end("cancels: 422", closed if self.cancels else s)
            else:
                n = s._replace(intents=put(s.intents, w, (*s.intents[w][:3], True)), net=put(s.net, w, self.scripts[w][turn]))
                go("judges and sends", "sent", n)
        elif pc == "sent" and len(s.vault[w]) > s.intents[w][1]:
            end("advances: 200", self.advance(s, w))
        return out

    def define(self, s):
        pc, judged, times = s.definer
        if pc == "idle":
            if all(self.value(s, d, len(s.log)) == 1 for d in (0, 1)):
                return [("the definer is refused", s._replace(definer=("done", 0, 0)))]
            return [("the definer judges", s._replace(definer=("judged", len(s.log), times)))]
        if pc == "judged":
            if any(self.blocks(it) for it in s.intents):
                return [("the definer has waited for too long: 503", s._replace(definer=("done", 0, 0)))]
            if {0, 1} & set(s.log[judged:]):
                if times >= AGAIN:
                    bad = None if self.bounded else "the definer judges for ever"
                    return [("the definer gives up: 503", s._replace(definer=("done", 0, 0), bad=bad))]
                return [("the definer judges again", s._replace(definer=("idle", 0, times + 1)))]
            return [("the definer commits", s._replace(definer=("done", 0, 0), log=s.log + ("rule",), rule=True))]
        return []

    def always(self, s):
        if s.bad:
            return s.bad
        if s.rule and all(self.value(s, d, len(s.log)) == 1 for d in (0, 1)) and not s.late:
            return "the pair breaks the rule, and no write was late"

    def settled_flaw(self, s):
        for w, it in enumerate(s.intents):
            if it and it[0] in ACTIVE:
                return f"intent {w} blocks what is related for ever"
        for w, proc in enumerate(s.procs):
            if proc[0] != "done":
                return f"writer {w} waits for ever"
        if s.definer[0] != "done":
            return "the definer waits for ever"


class J(NamedTuple):
    values: tuple = (0, 0, 0)              # A, which both pairs have, B, C
    changed: tuple = (0, 0, 0)
    rev: int = 0
    open: tuple = (False, False, False)
    left: tuple = (1, 1, 1)                # writes to come
    verdicts: tuple = (None, None)         # per pair: the revision it was judged at
    rule: bool = False
    definer: str = "judging"
    again: int = 0


PAIRS = ((0, 1), (0, 2))


class Judging:
    """A definer over two pairs. `again`: what it judges again after a change: "pairs" | "own" | "newest" | "all".

    "pairs": every pair that has the document; "own": the pair that is named after it, A being of the first; "newest": only pairs
    changed since the newest verdict, not each since its own; "all": every pair, so that the time it takes grows with the pairs.
    """

    def __init__(self, again="pairs"):
        self.again = again

    def initial(self):
        return J()

    def stale(self, s, p):
        judged = s.verdicts[p]
        if judged is None:
            return True
        if self.again == "own":
            return s.changed[p + 1] > judged or (p == 0 and s.changed[0] > judged)
        if self.again == "newest":
            judged = max(v for v in s.verdicts if v is not None)
        return any(s.changed[d] > judged for d in PAIRS[p])

    def steps(self, s):
        out = []
        for d in range(3):
            if s.left[d] and not s.open[d]:
                pairs = [p for p in PAIRS if d in p]
                blocked = any(s.open[o] for p in pairs for o in p)
                breaks = s.rule and any(all(s.values[o] == 1 for o in p if o != d) for p in pairs)
                if not blocked and not breaks:
                    out.append((f"!document {d}: an intent", s._replace(open=put(s.open, d, True), left=put(s.left, d, 0))))
            if s.open[d]:
                out.append((f"document {d} is written", s._replace(
                    open=put(s.open, d, False), values=put(s.values, d, 1), changed=put(s.changed, d, s.rev + 1), rev=s.rev + 1)))
        if s.definer == "judging":
            stale = [p for p in (0, 1) if self.stale(s, p)]
            for p in stale:
                if all(s.values[d] == 1 for d in PAIRS[p]):
                    out.append(("the definer is refused", s._replace(definer="done", verdicts=(None, None))))
                else:
                    others = s.verdicts if self.again != "all" or s.verdicts[p] is None else (None, None)
                    word = "judges" if s.verdicts[p] is None else "judges again"
                    out.append((f"the definer {word} pair {p}", s._replace(verdicts=put(others, p, s.rev), again=s.again + 1)))
            if not stale and not any(s.open):
                out.append(("the definer commits", s._replace(definer="done", rule=True, rev=s.rev + 1, verdicts=(None, None))))
        return out

    def always(self, s):
        if s.rule and any(all(s.values[d] == 1 for d in p) for p in PAIRS):
            return "a pair breaks the rule"
        changes = sum(2 if d == 0 else 1 for d in range(3) if s.changed[d])
        if s.again > len(PAIRS) + changes:
            return "pairs were judged again that had not changed"

    def settled_flaw(self, s):
        return None if s.definer == "done" else "the definer waits for ever"


def guards(**change):
    return lambda: Guards(**{**GUARDS, **change})


def progress(**change):
    return lambda: Progress(**{**PROGRESS, **change})


ONCE = ((1,), (1,))
RUNS = {
    "new-pair": Case("pass", "two writers, a pair being created", guards()),
    "old-pair": Case("pass", "two writers, a pair that exists", guards(new_pair=False)),
    "no-expiry": Case("pass", "the same, nothing is late", guards(expiry=False)),
    "definer": Case("pass", "the rule comes meanwhile, a pair being created", guards(rule=0, definer=True)),
    "definer-old": Case("pass", "the same, a pair that exists", guards(rule=0, definer=True, new_pair=False)),
    "ablate-guard": Case("violation", "no guard at all", guards(moved=False, opened=False, new_pair=False)),
    "ablate-open": Case("violation", "changes are looked at, open intents are not", guards(opened=False, new_pair=False)),
    "ablate-revision": Case("violation", "open intents only", guards(moved=False, new_pair=False)),
    "seeded": Case("violation", "SEEDED BUG: only documents that were known when it was judged", guards(symmetric=False)),
    "ablate-definitions": Case("violation", "definitions are not guarded", guards(definitions=False, rule=0, definer=True, new_pair=False)),
    "ablate-definer": Case("violation", "a definition commits over open intents", guards(definer_waits=False, rule=0, definer=True, new_pair=False)),
    "ablate-lock": Case("violation", "asked and begun in two steps", guards(lock=False, new_pair=False)),
    "progress": Case("pass", "late followers, one write against four of the other layer", progress()),
    "progress-both": Case("pass", "both layers are written again and again", progress(scripts=((0, 0, 0, 1), (0, 0, 0, 1)))),
    "progress-deaths": Case("pass", "two writers die, their requests are lost or late", progress(scripts=((1,), (0, 0, 1)), deaths=2)),
    "progress-definer": Case("pass", "the rule comes meanwhile", progress(scripts=((1,), (0, 0, 1)), rule=False, definer=True)),
    "progress-definer-death": Case("pass", "the same, a writer dies", progress(scripts=((1,), (0, 1)), rule=False, definer=True, deaths=1)),
    "progress-others": Case("pass", "definitions that do not apply change three times", progress(scripts=ONCE, others=3)),
    "ablate-newest": Case("violation", "the guard is the newest revision, the judgement an older one", progress(guard="newest")),
    "ablate-applies": Case("violation", "every definition sends a writer back", progress(applies=False, scripts=ONCE, others=3)),
    "ablate-follower": Case("violation", "a writer that was sent back does not wait for its replica", progress(waits=False)),
    "ablate-first": Case("violation", "no intent is opened first: the writer of the shared layer starves", progress(first=False)),
    "ablate-afresh": Case("violation", "who opens first relies on what it judged before", progress(afresh=False)),
    "ablate-earlier": Case("violation", "who opens first does not wait for intents that were open already", progress(earlier="none")),
    "ablate-order": Case("violation", "two that opened first wait for each other", progress(earlier="all", scripts=((0, 0, 0, 1), (0, 0, 0, 1)))),
    "ablate-follows": Case("violation", "who opens first judges before its replica has followed", progress(follows=False)),
    "ablate-respected": Case("violation", "an intent that was opened first is ignored until it is sent", progress(respected=False)),
    "ablate-cancel": Case("violation", "who opened first and is refused leaves its intent open", progress(cancels=False)),
    "ablate-doubt": Case("violation", "an intent in doubt blocks nobody", progress(doubt_blocks=False, scripts=ONCE, deaths=1)),
    "ablate-doubt-end": Case("violation", "an intent in doubt blocks for ever", progress(doubt_ends=False, scripts=ONCE, deaths=1)),
    "ablate-definer-bound": Case("violation", "a definer judges as long as there are writes", progress(bounded=False, scripts=((0,), (0, 0, 0, 0)), rule=False, definer=True)),
    "judging": Case("pass", "one shared document, two pairs: a definer judges again what changed", Judging),
    "ablate-judging-shared": Case("violation", "a change of the shared document is judged for one pair", lambda: Judging("own")),
    "ablate-judging-newest": Case("violation", "changes since the newest verdict, not since each", lambda: Judging("newest")),
    "ablate-judging-all": Case("violation", "every change makes a definer judge every pair", lambda: Judging("all")),
}

if __name__ == "__main__":
    sys.exit(main("E. schemas over several documents", RUNS, sys.argv[1:]))
