-- How each attribute of an oracle by words was calibrated, and how often it agrees with the table's annotations of that name, on
-- images that the calibration did not use. Over: the attributes of runs whose oracle has `words`.
-- Columns:
--   attribute: the oracle's name of it
--   calibrated_by: annotations (Platt's logistic regression), split (scores cut in two), settings, or model (its own scale)
--   slope, intercept: log-odds are slope times score plus intercept
--   share: of the sampled images, how many have the attribute by these words
--   parted: of a split, the share of the scores' variance that lies between its halves: .64 where there are no two groups
--   balanced_accuracy: mean of the shares that are right with and without the attribute; null where there is no annotation
--   low, high: its 95 % interval
--   n_with, n_without: annotated images with and without the attribute that it was measured on
create view word_agreement as
select run_id, of_words.*
from (select run_id, unnest(words) as of_words from runs);
