"""Moderation: which files of a collection show what a policy names, how sure that is, and where in a video it stands.

policy = read_policy(Path("policy.yaml"))             or parse_policy(text), for a text that comes from elsewhere
moderator = Moderator(midsight.load(), policy)
moderator.verdict("photo.jpg")                        one verdict; the model may be shared, the call holds no state
for verdict in moderator.verdicts(paths): ...         many; what cannot be read is a verdict "error"
"""

from midsight.library.moderate.job import ModerateJob, Moderator, read_verdicts
from midsight.library.moderate.policy import Calibration, Category, Policy
from midsight.library.moderate.reading import parse_policy, read_policy
from midsight.library.moderate.verdicts import Finding, Stretch, Verdict

__all__ = [
    "Calibration", "Category", "Finding", "ModerateJob", "Moderator", "Policy", "Stretch", "Verdict", "parse_policy",
    "read_policy", "read_verdicts",
]  # fmt: skip
