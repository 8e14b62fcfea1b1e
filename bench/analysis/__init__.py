"""What a run means; it reads run folders and measures nothing. Four rooms, each built on those before it:

statistics  ->  measures  ->  findings  ->  report
"""
