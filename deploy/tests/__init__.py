"""Tests of the deployment tool's parts. Run in deploy/: `PYTHONPATH=../localstack python -m unittest discover -s tests -t .`"""
