"""Ways to search a space. The methods, a plain dict: name -> `Method`."""

from singlepath.search import paper, random_, single_path
from singlepath.search.base import Found, Method, Plan, Problem
from singlepath.search.runner import run_search

__all__ = ["METHODS", "Found", "Method", "Plan", "Problem", "run_search"]

METHODS: dict[str, Method] = {"single-path": single_path.METHOD, "paper": paper.METHOD, "random": random_.METHOD}
