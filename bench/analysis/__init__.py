"""What a run means: metrics with intervals, doubts, verdicts, charts, report. Reads run folders, measures nothing."""
