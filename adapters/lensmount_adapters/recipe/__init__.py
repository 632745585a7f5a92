"""Recipes: train what a published system trains and compare our figures with the published ones."""
