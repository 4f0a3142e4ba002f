"""See ``antiphon.facade.language_coordinator``."""

from antiphon.facade.language_coordinator import LanguageCoordinator

__all__ = ["LanguageCoordinator"]
