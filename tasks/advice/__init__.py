"""What can be said before an audit: its cost, whether its prior fits, which settings suit."""
