"""What a run means: metrics with intervals, warnings, verdicts, charts, report. Reads run folders, measures nothing."""
