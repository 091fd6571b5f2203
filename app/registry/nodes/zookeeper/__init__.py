"""Nodes of instances in ZooKeeper."""
