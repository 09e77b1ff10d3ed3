"""The one door: every event goes in through `handle`, everything to do comes out as a Step."""
