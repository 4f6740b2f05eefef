# What both services share, and what their tasks plug into: a cluster, a load balancer with a target group per
# service, and the roles that tasks assume (roles.tf). No tasks are defined here: on AWS they are ECS services (the
# module `task` below this one), on the local target processes that register themselves in the same target groups.

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_ecs_cluster_capacity_providers" "this" {
  count = var.fargate ? 1 : 0

  cluster_name       = aws_ecs_cluster.this.name
  capacity_providers = ["FARGATE", "FARGATE_SPOT"]
}
