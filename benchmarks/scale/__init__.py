"""How many servers a load needs: a simulation with measured costs, compared with a real server."""
