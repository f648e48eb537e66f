-- How much of the classifier's answers what was named explains, beside the most that anything measured explains. A run whose names
-- explain clearly less clears the classifier of nothing, whatever each attribute says.
-- Over: runs with a label or an attribute, and enough images of either predicted class; one row a class that was looked at.
-- Columns:
--   class: the class whose log-odds are predicted
--   share: out-of-fold R2 from the label and all named attributes
--   low, high: 95 % interval of it
--   label_share: from the label alone; null without labels
--   needs_attributes: the label alone explains more than .1 less than the ceiling, so that named attributes decide, too
--   ceiling: the largest share from any inputs
--   ceiling_inputs: from which
--   missing: ceiling minus share
--   missing_low, missing_high: 95 % interval of that
--   cleared: the names explain enough for a verdict of clear
--   why: the decision in words
create view explained_share as
select
    run_id, class,
    max(r2) filter (names) as share, max(low) filter (names) as low, max(high) filter (names) as high,
    max(r2) filter (inputs = 'label') as label_share,
    coalesce(max(r2) filter (ceiling) - max(r2) filter (inputs = 'label') > 0.1, true) as needs_attributes,
    max(r2) filter (ceiling) as ceiling, max(inputs) filter (ceiling) as ceiling_inputs,
    any_value(missing) as missing, any_value(missing_low) as missing_low, any_value(missing_high) as missing_high,
    bool_and(cleared) as cleared, any_value(why) as why, any_value(n) as n
from explained
group by run_id, class;
