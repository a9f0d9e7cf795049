"""Policies: which learning rule each site of a model gets, and the plan that follows from it."""

from __future__ import annotations

from fxbio.policy.plan import Assignment, Decision, Plan, RuleTotal
from fxbio.policy.plan_diff import PlanDiff
from fxbio.policy.resolve import resolve
from fxbio.policy.schema import Entry, Expect, Policy, RuleChoice, Where
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
