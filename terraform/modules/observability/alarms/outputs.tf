output "alarm_arns" {
  description = "ARN of each alarm, by what it is about."
  value = merge(
    { for name, alarm in aws_cloudwatch_metric_alarm.dead_letter : "dead-letter-${name}" => alarm.arn },
    { for name, alarm in aws_cloudwatch_metric_alarm.latency : "latency-${name}" => alarm.arn },
    { for name, alarm in aws_cloudwatch_metric_alarm.healthy_tasks : "healthy-tasks-${name}" => alarm.arn },
    { for name, alarm in aws_cloudwatch_metric_alarm.lost_changes : name => alarm.arn },
    {
      availability       = aws_cloudwatch_metric_alarm.availability.arn
      edge-errors        = aws_cloudwatch_metric_alarm.edge_errors.arn
      read-errors        = aws_cloudwatch_metric_alarm.read_errors.arn
      propagation        = aws_cloudwatch_metric_alarm.propagation.arn
      repairs            = aws_cloudwatch_metric_alarm.repairs.arn
      sweep-repairs      = aws_cloudwatch_metric_alarm.sweep_repairs.arn
      journal-sweeps     = aws_cloudwatch_metric_alarm.sweeps.arn
      guarded-edits      = aws_cloudwatch_metric_alarm.guarded_edits.arn
      history-failures   = aws_cloudwatch_metric_alarm.history_failures.arn
      signing-keys-age   = aws_cloudwatch_metric_alarm.signing_keys_age.arn
      key-mirror-errors  = aws_cloudwatch_metric_alarm.key_mirror_errors.arn
      journal-writes     = aws_cloudwatch_metric_alarm.journal_writes.arn
      fanout-failures    = aws_cloudwatch_metric_alarm.fanout_failures.arn
      invalidator-errors = aws_cloudwatch_metric_alarm.invalidator_errors.arn
      key-mirror-stopped = aws_cloudwatch_metric_alarm.key_mirror_stopped.arn
      stream-lag         = aws_cloudwatch_metric_alarm.stream_lag.arn
    },
  )
}
