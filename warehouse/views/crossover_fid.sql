-- Crossover FID (DVCE): counterfactuals that go from one half of the classes to the other, against real images of where they go;
-- mean over the directions. Lower is better. A counterfactual equal to its image scores as badly as the halves differ.
-- Over: `crossed`: every guided explanation across the halves, flipped or not, against every image of the half.
-- Columns:
--   value: mean over the directions, 0 at best
--   n: counterfactuals across the halves
--   directions: 2, or 1 where the run goes one way only
create view crossover_fid as
select run_id, method, value, n, encoder, n_real, splits as directions
from set_metrics
where metric = 'crossover_fid' and value is not null;
