-- The cells of `place_claims`, and which of them decide for a reason without a name. What is left of a cell without the named
-- attributes rests on a linear account of what the oracle sees; where the names explain the answers as far as anything does, a cell
-- in which a named attribute lies is that attribute's. Over: runs whose classifier predicts more than one class.
-- Columns:
--   unnamed: the cell decides, and nothing that was named accounts for it
create view place_cells as
select
    c.* exclude (unnamed), c.unnamed and not (coalesce(cleared, false) and len(attributes) > 0) as unnamed
from place_claims c left join (select run_id, class, cleared from explained_share) using (run_id, class);
