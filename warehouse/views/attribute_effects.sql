-- What the classifier's guidance changed, per attribute and direction source -> target: the oracle's probability, guided minus
-- null. low and high: 95 % bootstrap interval of this effect alone. p: sign-flip permutation. q: Benjamini-Hochberg over the
-- run's attributes and directions, null for the target attribute. n: images; of more than two classes 8 or more (`fewest_images()`).
-- Over: every explanation with its null, flipped or not.
-- Columns:
--   effect: mean change of the attribute's oracle probability, guided minus null
--   low, high: 95 % bootstrap interval of this effect alone
--   p: two-sided sign-flip permutation test
--   q: the p-value after Benjamini-Hochberg over attributes and directions; null for the target attribute
--   n: images
create view attribute_effects as
select run_id, method, attribute, source, target, effect, low, high, p, q, n
from attribute_tests
where not pooled;
