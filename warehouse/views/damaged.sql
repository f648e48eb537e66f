-- Files among the facts that are not as they were written. A question that would read one leaves its run out of the answer, and says
-- so; a question about that run alone is refused. A file that came from elsewhere is hashed when a question first needs it, and any
-- file when its size or times change; `cfx scrub` reads every byte, whatever is known. Over: every file of every fact.
-- Columns:
--   run_id: the audit; of edits and draws, which belong to no audit, their own
--   fact: what it holds rows of
--   file: relative to the warehouse
--   wrong: cut short, altered, not sealed (not written by an audit), missing, or why it cannot be read
--   way_out: what makes it whole again
create view damaged as
select run_id, fact, file, wrong, way_out
from facts.damaged;
