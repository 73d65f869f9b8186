"""JupyterLab in a browser."""
