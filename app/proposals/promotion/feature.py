"""Builds the part of the service that promotes."""

from app.configs.feature import Configs
from app.feature import Feature, Routes
from app.flags.feature import Flags
from app.proposals.promotion.api.problem_codes import PROBLEM_CODES
from app.proposals.promotion.api.router import router
from app.proposals.promotion.comparer import PromotionComparer
from app.proposals.promotion.promoter import Promoter
from app.proposals.promotion.store.port import PromotionStore
from app.rules.feature import Rules

PROMOTION_ROUTES = Routes(routers=(router,), problem_codes=PROBLEM_CODES)


def build_promotions(
    rules: Rules, configs: Configs, flags: Flags, store: PromotionStore
) -> Feature:
    comparer = PromotionComparer(configs.reader, rules.catalog, flags.cache, flags.store, store)
    promoter = Promoter(comparer, configs.writer, flags.writer, store, rules.policies)
    return Feature(
        state={
            "promotion_comparer": comparer,
            "promoter": promoter,
            "promotion_store": store,
        }
    )
