"""Plugins for Feast that work in any project: offline store, batch engine, online store and its reader."""
