"""What commands end with: 0 done or passed, 1 failed, 2 not decided."""

from infra.contracts.manifests import Verdict
from infra.registry.cases import CaseState
from infra.registry.rollouts import ON_TRAFFIC, RolloutState

DONE, FAILED, UNDECIDED = 0, 1, 2

GATES = {Verdict.PASS: DONE, Verdict.FAIL: FAILED, Verdict.INCONCLUSIVE: UNDECIDED}
CASES = {
    CaseState.REQUESTED: UNDECIDED,
    CaseState.LIVE: DONE,
    CaseState.REFUSED: FAILED,
    CaseState.ERASED: FAILED,
    CaseState.EXPIRED: FAILED,
}
ROLLOUTS = {
    **dict.fromkeys(ON_TRAFFIC, UNDECIDED),
    RolloutState.QUEUED: UNDECIDED,
    RolloutState.REQUESTED: UNDECIDED,
    RolloutState.LOADING: UNDECIDED,
    RolloutState.DRAINING: DONE,  # flipped: new answers come from the new version
    RolloutState.DONE: DONE,
    RolloutState.FAILED: FAILED,
    RolloutState.ABORTED: FAILED,
}
