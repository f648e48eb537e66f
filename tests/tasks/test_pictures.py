"""PNG files made on other threads: those that the caller would make, in order, and none of a mask that is not there."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from cfx.errors import UserError
from cfx.images import encode_png
from cfx.types import Counterfactual
from tasks.pictures import Pictures


def test_files_of_other_threads_are_the_callers_own_in_order() -> None:
    noise = torch.Generator().manual_seed(0)
    x, mask = torch.randn(9, 3, 16, 16, generator=noise), torch.rand(9, 1, 16, 16, generator=noise).round()
    mask[[0, 4]] = torch.nan
    with ThreadPoolExecutor(3) as pool:
        made = Pictures(Counterfactual(x, mask), pool).columns()
    assert made == Pictures(Counterfactual(x, mask)).columns()
    assert made["png"] == encode_png(x)
    grey = [encode_png((one * 2 - 1).expand(3, -1, -1)[None])[0] for one in mask.nan_to_num(0.0)]
    assert made["mask_png"] == [None if i in (0, 4) else png for i, png in enumerate(grey)]


def test_an_image_that_is_not_finite_is_refused_before_anything_is_made() -> None:
    x = torch.zeros(2, 3, 4, 4)
    x[1, 0, 0, 0] = torch.inf
    with pytest.raises(UserError, match="NaN or infinite"), ThreadPoolExecutor(1) as pool:
        Pictures(Counterfactual(x, torch.ones(2, 1, 4, 4)), pool)
