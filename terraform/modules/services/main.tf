# What both services share, and what their tasks plug into: a cluster, a load balancer with a target group per
# service, and the roles that tasks assume (roles.tf). No tasks are defined here: on AWS they are ECS services, on
# the local target processes that register themselves in the same target groups.

resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}
