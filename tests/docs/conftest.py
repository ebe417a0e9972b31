"""A farm for the programs that are on the pages."""

from support.served_fixtures import farm, start_farm

__all__ = ["farm", "start_farm"]
