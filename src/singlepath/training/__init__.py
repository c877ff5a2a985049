"""Training: the one loop, the optimisers, the recipes, and training and evaluating a plain network."""

from singlepath.training.loop import Progress, fit, quiet
from singlepath.training.recipe import RECIPES, Recipe, get_recipe
from singlepath.training.train import evaluate, train_network

__all__ = ["RECIPES", "Progress", "Recipe", "evaluate", "fit", "get_recipe", "quiet", "train_network"]
