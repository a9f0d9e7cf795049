"""Policies: which learning rule each site of a model gets, and the plan that follows from it."""

from __future__ import annotations

from fxbio.policy.assignment import Assignment, Decision
from fxbio.policy.entries import Entry, Expect, RuleChoice, Where
from fxbio.policy.plan import Plan, RuleTotal
from fxbio.policy.plan_diff import PlanDiff
from fxbio.policy.policy import Policy
from fxbio.policy.resolve import resolve
from fxbio.policy.selector import Graph, select
from fxbio.policy.table import plan_markdown, render_plan

__all__ = [
    "Assignment",
    "Decision",
    "Entry",
    "Expect",
    "Graph",
    "Plan",
    "PlanDiff",
    "Policy",
    "RuleChoice",
    "RuleTotal",
    "Where",
    "plan_markdown",
    "render_plan",
    "resolve",
    "select",
]
